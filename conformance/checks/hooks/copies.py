"""Copies: a bridge keeps to itself, whatever it was copied from, booted around or wrapped upon. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...subject import Boot

SWITCHES = ("set_use_attn_result", "set_use_split_qkv_input", "set_use_attn_in", "set_use_hook_mlp_in")
"""Setters that every bridge has, and that a copy may be asked for."""


@requirement("hooks/deepcopy", level=MUST, needs=("hooks/fires",))
def deepcopy(boot: Boot) -> Iterator[Finding]:
    """A deep copy of a bridge MUST run with hooks, switches and weights of its own, and leave the original's alone.

    A control that shares a switch with the model under study is no control (TransformerLens PR #1770).
    """
    import copy

    from ...pair import blamed_on_subject
    from ...taps import canonical_names, record_bridge

    bridge, pair = boot.bridge, next(iter(boot.pairs.values()))
    with blamed_on_subject():
        clone = copy.deepcopy(bridge)
    ours = {tensor.untyped_storage().data_ptr(): name for name, tensor in _tensors(bridge)}
    for name, tensor in _tensors(clone):
        if (other := ours.get(tensor.untyped_storage().data_ptr())) and tensor.numel():
            yield Finding("shared-weights", name, got=f"the memory of {other}", want="a tensor of its own")
            break

    before = _switches(bridge)
    for setter in SWITCHES:
        _flip(clone, setter)
    changed = [name for name, value in _switches(bridge).items() if value != before[name]]
    if changed:
        yield Finding("shared-switch", changed[0], got="switched by the copy", want="switched by its own bridge alone")
    for setter in SWITCHES:
        _flip(clone, setter, on=False)

    points = {id(point) for point in bridge.hook_points()}
    shared = [point.name for point in clone.hook_points() if id(point) in points]
    if shared:
        yield Finding("shared-hook", shared[0], got="the original's own hook point", want="one of its own")
        return
    fired: list[str] = []
    wanted = set(pair.observed.taps)
    observer = (wanted.__contains__, lambda tensor, hook: fired.append(hook.name))
    with blamed_on_subject(), bridge.hooks(fwd_hooks=[observer]):
        names = [name for name in canonical_names(clone) if name in wanted]
        own = record_bridge(partial(pair.guarded, clone), clone, names)
    if fired:
        yield Finding("runs-the-original", "copy", got=f"{fired[0]} of the original fires", want="none of its hooks")
    elif own.order != pair.observed.order:
        silent = [name for name in wanted if name not in own.taps]
        yield Finding("other-firings", "copy", got=f"{len(silent)} silent hooks", want="those of the original")


def _tensors(bridge: Any) -> Iterator[tuple[str, Any]]:
    yield from bridge.named_parameters()
    yield from bridge.named_buffers()


def _switches(bridge: Any) -> dict[str, object]:
    """Every switch that decides about hooks: of the bridge's config, and of the components that keep one."""
    owners = {"cfg": bridge.cfg, **{path: module for path, module in bridge.named_modules() if path}}
    return {
        f"{path}.{name}": value
        for path, owner in owners.items()
        for name, value in vars(owner).items()
        if name.lstrip("_").startswith("use_") and isinstance(value, bool)
    }


def _flip(bridge: Any, setter: str, on: bool = True) -> None:
    # A model that cannot have these hooks refuses; hooks/gated looks at how.
    with contextlib.suppress(Exception):
        getattr(bridge, setter)(on)


@requirement("hooks/load-path", level=MUST, needs=("hooks/fires",))
def load_path(boot: Boot) -> Iterator[Finding]:
    """A bridge that is booted around a model one has built MUST have the names of one that is booted by path, and its
    hooks fire as often and in the same order.

    TransformerLens once forced the attention that shows patterns only on models that it loaded itself.
    """
    from ...pair import blamed_on_subject
    from ...taps import canonical_names, record_bridge, shape_only

    model = boot.construct()
    with blamed_on_subject():
        bridge = boot.boot_again(model)
    names, wanted = (sorted(b.hook_dict) for b in (bridge, boot.bridge))
    for name in sorted(set(names) ^ set(wanted)):
        got, want = ("a hook" if name in each else "no such hook" for each in (names, wanted))
        yield Finding("other-names", name, got=got, want=want)
    for pair in boot.pairs.values():
        known = [name for name in canonical_names(bridge) if name in pair.names]
        with blamed_on_subject():
            order = record_bridge(partial(pair.guarded, bridge), bridge, known, keep=shape_only).order
        expected = [name for name in pair.observed.order if name in known]
        for name in dict.fromkeys([*expected, *order]):
            if order.count(name) != expected.count(name):
                got, want = (f"{each.count(name)} firings" for each in (order, expected))
                yield Finding("firings", name, got=got, want=want, case=pair.layout.name)


@requirement("hooks/native-clean", level=MUST)
def native_clean(boot: Boot) -> Iterator[Finding]:
    """The modules of the wrapped model MUST NOT carry a public attribute that the same modules of the reference lack.

    What a bridge leaves on a model that it was lent reaches whoever else uses it; an attribute meant for the wrapper
    that lands below it is lost above (TransformerLens: a rebinding of aliases was).
    """
    from ...components import natives

    for path, module, same in natives(boot.bridge.original_model, boot.reference):
        for name in sorted(_public(module) - _public(same)):
            yield Finding("leaked", f"{path}.{name}".lstrip("."), got="an attribute", want="none, as in the reference")


def _public(module: Any) -> set[str]:
    """Names that an instance has of its own; private ones are the libraries' business."""
    names = {*vars(module), *module._parameters, *module._buffers, *module._modules}
    return {name for name in names if not name.startswith("_")}
