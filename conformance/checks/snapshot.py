"""snapshot: what a bridge looks like, as text that a reviewer reads in a diff. PYTEST_DONT_REWRITE

All are taken at the sizes of the adapter's miniature, so that one file stands for every checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ..pair import Pair
    from ..snapshots import Snapshot
    from ..subject import Boot


@requirement("snapshot/hook-tree", level=MUST, needs=("hooks/fires",))
def hook_tree(pair: Pair, snapshot: Snapshot) -> Iterator[Finding]:
    """Names, aliases, shapes, dtypes, firing order and counts of all hooks MUST be those of the committed snapshot.

    A hook that moves between two releases changes a result without changing a line of the analysis.
    """
    pair = pair.boot.small.pairs[pair.layout.name]
    registry = pair.boot.bridge.hook_dict
    aliases: dict[str, list[str]] = {}
    for name, point in registry.items():
        if point.name != name:
            aliases.setdefault(point.name, []).append(name)
    lines = []
    for name in dict.fromkeys(pair.observed.order):
        calls = pair.observed.taps[name]
        times = f" x{len(calls)}" if len(calls) > 1 else ""
        also = f" = {', '.join(sorted(aliases[name]))}" if name in aliases else ""
        lines.append(f"{name}: {_symbolic(pair, calls[0])}{times}{also}")
    silent = sorted(name for name in registry if registry[name].name == name and name not in pair.observed.taps)
    lines += [f"{name}: {'refused' if name in pair.boot.refused else 'never fires'}" for name in silent]
    yield from snapshot(lines)


@requirement("snapshot/component-map", level=MUST)
def component_map(boot: Boot, snapshot: Snapshot) -> Iterator[Finding]:
    """Components, their bridge classes and the remote modules they wrap MUST be those of the committed snapshot.

    A component that changes its class changes which hooks exist and what they mean.
    """
    lines = []

    def visit(prefix: str, mapping: dict[str, Any]) -> None:
        for name, component in mapping.items():
            lines.append(f"{prefix}{name}: {type(component).__name__} <- {component.name or 'no module'}")
            visit(f"{prefix}{name}.", component.submodules)

    visit("", boot.bridge.adapter.component_mapping)
    yield from snapshot(lines)


@requirement("snapshot/config", level=MUST)
def config(boot: Boot, snapshot: Snapshot) -> Iterator[Finding]:
    """Every field of `bridge.cfg` MUST be that of the committed snapshot, paths left out.

    Defaults change between releases; analysis code that reads them changes with them.
    """
    fields = {
        name: value for name, value in vars(boot.small.bridge.cfg).items() if name not in {"model_name", "device"}
    }
    yield from snapshot([f"{name} = {_plain(value)}" for name, value in sorted(fields.items())])


def _plain(value: Any) -> str:
    """A value as text; numbers of any library read like Python's."""
    if hasattr(value, "item"):
        value = value.item()
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _symbolic(pair: Pair, tensor: Tensor) -> str:
    """`float32 batch 2*n d_model`: sizes by the names of the spec's axes, which a miniature keeps distinct."""
    from ..sizes import Size

    sizes = pair.boot.sizes
    symbols = {Size(axis).of(sizes): axis for axis in reversed(pair.boot.spec.axes)}
    axes = [symbols.get(size, str(size)) for size in tensor.shape]
    # The batch may be as large as some axis; it comes first.
    axes[:1] = ["batch" if size == len(pair.plain) else str(size) for size in tensor.shape[:1]]
    return " ".join([str(tensor.dtype).removeprefix("torch."), *axes])
