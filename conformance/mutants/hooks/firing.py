"""Hooks that are dead, doubled, late, or that change what they show."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import advertise, around_firing, from_the_second_on, inner_hook, on_bridge, refuse

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


@mutant(kills="hooks/identity")
def scaled_and_scaled_back(boot: Boot) -> None:
    """What a hook returns is scaled on the way in and out again, which costs its last bits.

    TransformerLens does so for models with a residual multiplier (#1648), and must spare a hook that changes nothing.
    """

    def defect(bridge: Any) -> None:
        point = bridge.hook_dict[inner_hook(bridge)]
        point.hook_conversion = SimpleNamespace(convert=lambda tensor: tensor, revert=lambda tensor: tensor / 3 * 3)

    on_bridge(boot, defect)
