"""snapshot: what a bridge looks like, as text that a reviewer reads in a diff. PYTEST_DONT_REWRITE

All are taken at the sizes of the adapter's miniature, so that one file stands for every checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..finding import Finding
from ..requirement import MUST, requirement
from ..spec import Impossible, NotYet

if TYPE_CHECKING:
    from torch import Tensor

    from ..judge import Evidence
    from ..pair import Pair
    from ..snapshots import Snapshot
    from ..spec import AdapterSpec
    from ..subject import Boot


@requirement("snapshot/hook-tree", level=MUST, needs=("hooks/fires",))
def hook_tree(pair: Pair, evidence: Evidence, snapshot: Snapshot) -> Iterator[Finding]:
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
        shapes = " | ".join(dict.fromkeys(_symbolic(pair, tensor) for tensor in calls))
        times = f" x{len(calls)}" if len(calls) > 1 else ""
        also = f" = {', '.join(sorted(aliases[name]))}" if name in aliases else ""
        lines.append(f"{name}: {shapes}{times}{also}")
    silent = sorted(name for name in registry if registry[name].name == name and name not in pair.observed.taps)
    lines += [f"{name}: {'refused' if name in pair.boot.refused else 'never fires'}" for name in silent]
    evidence.facts["tree"] = lines
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


@requirement("snapshot/capabilities", level=MUST, needs=("loading/runs",))
def capabilities(boot: Boot, snapshot: Snapshot) -> Iterator[Finding]:
    """What the spec says of every capability, and what the bridge answers, MUST be those of the committed snapshot.

    Users catch the error that they met; a release that answers with another, or with a result, takes their code apart.
    """
    from ..spec import CAPABILITIES
    from .denoising.text import denoised
    from .loading.capabilities import generated, loss_of

    small = boot.small
    uses: dict[str, dict[str, Callable[[], Any]]] = {
        "loss": {name: partial(loss_of, pair) for name, pair in small.pairs.items()},
        "generate": {name: partial(generated, pair) for name, pair in small.pairs.items()},
        "denoise": {"sampler": partial(denoised, small)},
    }
    lines = []
    for name in CAPABILITIES:
        lines.append(f"{name}: {_promised(boot.spec, name)}")
        lines += [f"    {where}: {_answered(name, use)}" for where, use in uses[name].items()]
    yield from snapshot(lines)


def _promised(spec: AdapterSpec, name: str) -> str:
    """What a spec says of one capability."""
    match spec.capabilities.get(name):
        case Impossible(why):
            return f"impossible, {why}"
        case NotYet(issue):
            return f"not yet, {issue}"
    return "offered"


def _answered(name: str, use: Callable[[], Any]) -> str:
    """What comes back from using it, or of what kind the error is and whether it says what is refused."""
    from ..capabilities import refuses
    from ..pair import SubjectRaised

    try:
        got = use()
    except SubjectRaised as error:
        cause = error.__cause__
        return f"{type(cause).__name__}, {'which names it' if refuses(cause, name) else 'which does not name it'}"
    shape = getattr(got, "shape", None)
    return type(got).__name__ if shape is None else f"{str(got.dtype).removeprefix('torch.')} {list(shape)}"


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
