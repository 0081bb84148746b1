"""Hooks that are dead, doubled, late, or that change what they show."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import NoPlace, mutant
from ..surgery import advertise, around_firing, from_the_second_on, inner_hook, on_bridge, part_of_stream, refuse

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/fires")
def advertised_and_dead(boot: Boot) -> None:
    """A hook can be attached to and never fires (TransformerLens #1688; PR #1256 for 25 adapters)."""

    def defect(bridge: Any) -> None:
        from transformer_lens.hook_points import HookPoint

        dead, name = HookPoint(), "blocks.0.attn.hook_rot_q"
        dead.name = name
        advertise(bridge, lambda registry: {**registry, name: dead})

    on_bridge(boot, defect)


@mutant(kills="hooks/fires")
def fires_with_a_tuple(boot: Boot) -> None:
    """A hook is handed the module's tuple instead of its tensor, so that what a hook returns is lost in it."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        inner((tensor,))
        return tensor

    on_bridge(boot, lambda bridge: around_firing(bridge, inner_hook(bridge), fire))


@mutant(kills="hooks/fires")
def refuses_without_a_name(boot: Boot) -> None:
    """A hook that cannot be attached is refused with an error that does not say which one."""

    def defect(bridge: Any) -> None:
        name = inner_hook(bridge)
        refuse(bridge, lambda asked: asked == name, "not supported by this architecture")

    on_bridge(boot, defect)


@mutant(kills="hooks/multiplicity")
def fires_twice(boot: Boot) -> None:
    """A hook fires twice on one tensor, so that an added vector is added twice (TransformerLens PR #1659, on MPT)."""
    on_bridge(boot, lambda b: around_firing(b, inner_hook(b), lambda fire, tensor: fire(fire(tensor))))


@mutant(kills="hooks/multiplicity")
def fires_for_the_first_part_only(boot: Boot) -> None:
    """A hook that should fire once per part of the stream fires for the first part and is silent on the rest."""
    on_bridge(boot, lambda bridge: from_the_second_on(boot, bridge, lambda _, tensor: tensor))


@mutant(kills="hooks/order")
def names_of_two_moments(boot: Boot) -> None:
    """The end of one layer and the start of the next change names: one tensor, but hooks run in the wrong order."""
    one, other = (boot.spec.streams[1].replace("{layer}", "0"), boot.spec.streams[0].replace("{layer}", "1"))

    def defect(bridge: Any) -> None:
        registry = bridge._hook_registry
        first, second = bridge.hook_dict[one], bridge.hook_dict[other]
        first.name, second.name = second.name, first.name
        registry[first.name], registry[second.name] = first, second

    on_bridge(boot, defect)


@mutant(kills="hooks/order")
def parts_shown_at_the_end(boot: Boot) -> None:
    """The output of a part of the stream is kept, and shown after all parts have run: in, in, out, out."""
    pattern = part_of_stream(boot)
    points = list(boot.spec.points)
    parts, after = (name.replace("{layer}", "0") for name in (pattern, points[points.index(pattern) + 1]))

    def defect(bridge: Any) -> None:
        kept: list[Callable[[], object]] = []

        def keep(fire: Callable[[Any], Any], tensor: Any) -> Any:
            kept.append(lambda: fire(tensor))
            return tensor

        def show(fire: Callable[[Any], Any], tensor: Any) -> Any:
            while kept:
                kept.pop(0)()
            return fire(tensor)

        around_firing(bridge, f"{parts}.hook_out", keep)
        around_firing(bridge, f"{after}.hook_in", show)

    on_bridge(boot, defect)


@mutant(kills="hooks/order")
def container_opens_late(boot: Boot) -> None:
    """`hook_in` of a component fires after the first hook below it, so that an edit there comes too late.

    TransformerLens PR #1659: the container of an MLP fired hooks on behalf of its parts.
    """

    def defect(bridge: Any) -> None:
        kept: list[Callable[[], object]] = []
        outer, inner = _container(boot)

        def keep(fire: Callable[[Any], Any], tensor: Any) -> Any:
            kept.append(lambda: fire(tensor))
            return tensor

        def late(fire: Callable[[Any], Any], tensor: Any) -> Any:
            got = fire(tensor)
            while kept:
                kept.pop()()
            return got

        around_firing(bridge, f"{outer}.hook_in", keep)
        around_firing(bridge, f"{inner}.hook_in", late)

    on_bridge(boot, defect)


def _container(boot: Boot) -> tuple[str, str]:
    """A component inside a layer, and the first one inside that."""
    for name in boot.spec.points:
        outer = name.rpartition(".")[0]
        if outer in boot.spec.points and outer.startswith("blocks.{layer}."):
            return outer.replace("{layer}", "0"), name.replace("{layer}", "0")
    raise NoPlace("no component of a layer has another one inside")


@mutant(kills="hooks/steady")
def doubled_for_a_larger_batch(boot: Boot) -> None:
    """A hook fires once for a batch of two, and twice for any other: right in the test, wrong in use."""

    def fire_twice(fire: Callable[[Any], Any], tensor: Any) -> Any:
        return fire(tensor) if len(tensor) == 2 else fire(fire(tensor))

    on_bridge(boot, lambda bridge: around_firing(bridge, inner_hook(bridge), fire_twice))


@mutant(kills="hooks/steady")
def silent_in_low_precision(boot: Boot) -> None:
    """A path of its own for another dtype fires no hook (TransformerLens PR #1527: norms on the native path)."""
    name = boot.spec.branches[0].raw.replace("{layer}", "0")

    def skip(fire: Callable[[Any], Any], tensor: Any) -> Any:
        return fire(tensor) if tensor.dtype.itemsize == 4 else tensor

    on_bridge(boot, lambda bridge: around_firing(bridge, name, skip))


@mutant(kills="hooks/steady")
def fires_once_only(boot: Boot) -> None:
    """A hook fires in the first forward of a length and in none that comes later, as where a closure is spent."""

    def defect(bridge: Any) -> None:
        point = bridge.hook_dict[inner_hook(bridge)]
        spent: set[Any] = set()

        def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
            if not point.has_hooks() or tensor.shape[1:] in spent:
                return tensor
            spent.add(tensor.shape[1:])
            return inner(tensor)

        around_firing(bridge, point.name, fire)

    on_bridge(boot, defect)


@mutant(kills="hooks/identity")
def scaled_and_scaled_back(boot: Boot) -> None:
    """What a hook returns is scaled on the way in and out again, which costs its last bits.

    TransformerLens does so for models with a residual multiplier (#1648), and must spare a hook that changes nothing.
    """

    def defect(bridge: Any) -> None:
        point = bridge.hook_dict[inner_hook(bridge)]
        point.hook_conversion = SimpleNamespace(convert=lambda tensor: tensor, revert=lambda tensor: tensor / 3 * 3)

    on_bridge(boot, defect)
