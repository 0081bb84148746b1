"""The few ways in which mutants cut into a bridge, by the names that hooks, components and layouts have."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from . import NoPlace

if TYPE_CHECKING:
    from torch import Tensor

    from ..layout import Layout
    from ..subject import Boot

Registry = Mapping[str, Any]
Entries = dict[str, Any]
Fact = TypeVar("Fact")


def having(fact: Fact | None, what: str) -> Fact:
    """A fact of the spec that a defect cannot do without."""
    if fact is None:
        raise NoPlace(f"the adapter has not got {what}")
    return fact


def first(found: Iterable[Fact], what: str) -> Fact:
    """The first of several of them."""
    return having(next(iter(found), None), what)


def masked(boot: Boot) -> Layout:
    """The first layout with a mask."""
    return first((layout for layout in boot.spec.layouts if layout.mask), "a layout with a mask of its own")


def mask_path(boot: Boot) -> tuple[str, str]:
    """The module of the remote model that holds the mask of that layout, and as which attribute."""
    owner, _, name = having(masked(boot).mask, "a mask").path.rpartition(".")
    return owner, name


def output_layer(boot: Boot) -> tuple[str, str]:
    """The component that the logits come out of, and the remote module that it wraps."""
    name = "unembed" if "unembed" in boot.spec.points else list(boot.spec.points)[-1]
    return name, boot.spec.points[name]


def inside_a_layer(boot: Boot) -> str:
    """The first component inside the first layer."""
    found = (point for point in boot.spec.points if "{layer}." in point)
    return first(found, "a point inside a layer").replace("{layer}", "0")


def part_of_stream(boot: Boot) -> str:
    """The point, as a pattern, of a component that runs once per part of the stream."""
    return first((point for layout in boot.spec.layouts for point in layout.fires), "parts of its stream")


def on_bridge(boot: Boot, defect: Callable[[Any], None]) -> None:
    """Put a defect into every bridge that `boot` boots."""
    boot.amend = defect


def on_this_model(boot: Boot, defect: Callable[[Any], None]) -> None:
    """The same, for bridges of this very checkpoint: those of the same code under another config stay good."""

    def boot_again(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        bridge = inner(*args, **kwargs)
        defect(bridge)
        return bridge

    around(boot, "boot_again", boot_again)


def on_boots_by_path(boot: Boot, defect: Callable[[Any], None], options: Container[str] = ()) -> None:
    """Put a defect into the bridges that are booted from this very checkpoint, not around a model or from a copy.

    A boot with any option is spared, unless it is one of `options`.
    """

    def boot_again(inner: Callable[..., Any], hf_model: Any = None, **kwargs: Any) -> Any:
        bridge = inner(hf_model, **kwargs)
        if hf_model is None and all(name in options for name in kwargs):
            defect(bridge)
        return bridge

    around(boot, "boot_again", boot_again)


def around(owner: Any, method: str, defect: Callable[..., Any]) -> None:
    """Let `defect(inner, *args, **kwargs)` answer for a method of this one object."""
    # Components of a bridge hand plain assignments on to the module they wrap.
    object.__setattr__(owner, method, partial(defect, getattr(owner, method)))


def around_firing(bridge: Any, name: str, defect: Callable[..., Any]) -> None:
    """Let `defect(fire, tensor)` answer whenever the hook at `name` is to fire."""
    point = bridge.hook_dict[name]
    fire = type(point).__call__
    become(point, __call__=lambda self, tensor: defect(partial(fire, self), tensor))


def around_backward_hook(bridge: Any, name: str, defect: Callable[..., Any]) -> None:
    """Let `defect(hook, gradient)` answer for every backward hook at `name`; `hook(gradient)` asks the hook itself."""

    def add_hook(inner: Callable[..., Any], hook: Callable[..., Any], dir: str = "fwd", **kwargs: Any) -> Any:
        def changed(gradient: Any, hook: Any) -> Any:
            return defect(partial(users, hook=hook), gradient)

        users = hook
        return inner(changed if dir == "bwd" else users, dir=dir, **kwargs)

    around(bridge.hook_dict[name], "add_hook", add_hook)


def advertise(bridge: Any, change: Callable[[Registry], Registry]) -> None:
    """Let the bridge advertise other hooks than it has."""
    inner = type(bridge).hook_dict
    become(bridge, hook_dict=property(lambda self: dict(change(inner.__get__(self)))))


def output(bridge: Any, change: Callable[[Tensor], Tensor]) -> None:
    """Change the logits of every forward."""

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        got = inner(*args, **kwargs)
        return change(got) if getattr(got, "ndim", 0) == 3 else got

    around(bridge, "forward", forward)


def component(bridge: Any, name: str) -> Any:
    """The component at a point: `blocks.0.ln1`."""
    found = bridge
    for step in name.split("."):
        found = found[int(step)] if step.isdigit() else getattr(found, step)
    return found


def inner_hook(bridge: Any) -> str:
    """A hook inside a component of the first layer, which no point of a spec demands, and which takes hooks."""
    from ..taps import attach_refusal, canonical_names

    inner = (name for name in canonical_names(bridge) if not name.endswith(("hook_in", "hook_out")))
    inside = (name for name in inner if name.startswith("blocks.0.") and name.count(".") > 2)
    return first((name for name in inside if attach_refusal(bridge, name) is None), "a hook inside a component")


def shown_twice_as_large(bridge: Any, name: str) -> None:
    """Let a hook show twice its tensor, and put back half of what hooks return."""
    bridge.hook_dict[name].hook_conversion = SimpleNamespace(
        convert=lambda tensor: 2 * tensor, revert=lambda tensor: tensor / 2
    )


def become(owner: Any, **members: Any) -> None:
    """Give one object a class of its own, with some members replaced; the name of the class stays."""
    kind = type(owner)
    object.__setattr__(owner, "__class__", type(kind.__name__, (kind,), members))


def refuse(bridge: Any, which: Callable[[str], bool], message: str) -> None:
    """Refuse hooks at some points, as TransformerLens does for points that are switched off."""

    def check(inner: Callable[..., Any], point: Any, *args: Any, **kwargs: Any) -> None:
        if which(point.name):
            raise ValueError(message)
        inner(point, *args, **kwargs)

    around(bridge, "check_hooks_to_add", check)


def from_the_second_on(boot: Boot, bridge: Any, defect: Callable[..., Any]) -> None:
    """Let `defect(fire, tensor)` answer for a hook that fires once per part of the stream, but for the first part."""
    pattern = part_of_stream(boot)
    fired: list[bool] = []

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        fired.clear()
        return inner(*args, **kwargs)

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        fired.append(True)
        return inner(tensor) if len(fired) == 1 else defect(inner, tensor)

    around(bridge, "forward", forward)
    around_firing(bridge, pattern.replace("{layer}", "0") + ".hook_out", fire)


OPTIONS = frozenset(
    ("names_filter", "return_cache_object", "remove_batch_dim", "pos_slice", "device", "stop_at_layer", "incl_bwd")
)
"""Keywords of `run_with_cache` that are not its own layout's."""


def caching(boot: Boot, change: Callable[[Entries, Entries], Entries]) -> None:
    """Let `change(entries, options)` make the cache that `run_with_cache` returns."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        returned, cache = inner(*args, **kwargs)
        changed = change(dict(cache.items()), {name: kwargs[name] for name in kwargs if name in OPTIONS})
        if isinstance(cache, dict):
            return returned, changed
        # What it can compute stays what it was.
        cache.cache_dict = changed
        return returned, cache

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


def algebra(boot: Boot, **methods: Callable[..., Any]) -> None:
    """Let the caches of `run_with_cache` compute some things in another way; each method gets the cache first."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        returned, cache = inner(*args, **kwargs)
        if not isinstance(cache, dict):
            become(cache, **methods)
        return returned, cache

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


def redeclare(bridge: Any, owner: str, alias: str, target: str) -> None:
    """Let a component declare another target for one of its aliases."""
    holder = component(bridge, owner)
    holder.hook_aliases = {**holder.hook_aliases, alias: target}
