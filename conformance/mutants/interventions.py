"""interventions: edits that are discarded, halved, or that count for one part of the stream only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import mutant
from .surgery import around_firing, from_the_second_on, inner_hook, on_bridge

if TYPE_CHECKING:
    from ..subject import Boot


@mutant(kills="interventions/edits")
def discards_edits(boot: Boot) -> None:
    """What a hook returns is thrown away (TransformerLens #1526: norms on the native path did so)."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        inner(tensor)
        return tensor

    on_bridge(boot, lambda bridge: around_firing(bridge, inner_hook(bridge), fire))


@mutant(kills="interventions/edits")
def discards_edits_of_one_part(boot: Boot) -> None:
    """Of a hook that fires once per part of the stream, only what it returns for the first part is used."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        inner(tensor)
        return tensor

    on_bridge(boot, lambda bridge: from_the_second_on(boot, bridge, fire))


@mutant(kills="interventions/edits")
def edits_at_half_strength(boot: Boot) -> None:
    """An edit is rescaled on its way into the stream (TransformerLens #1648, residual multipliers)."""
    on_bridge(boot, lambda b: around_firing(b, inner_hook(b), lambda fire, tensor: (tensor + fire(tensor)) / 2))
