"""interventions: edits that are discarded, halved, limited, overwritten, or that reach back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import mutant
from .surgery import Entries, around_firing, caching, from_the_second_on, inner_hook, on_bridge

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


@mutant(kills="interventions/replacements")
def zero_is_nothing(boot: Boot) -> None:
    """Entries that a hook returns as zero count as not returned, so that pushes work and ablations do not."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        returned = inner(tensor)
        return returned.where(returned != 0, tensor)

    def defect(bridge: Any) -> None:
        from ..taps import canonical_names

        for name in canonical_names(bridge):
            around_firing(bridge, name, fire)

    on_bridge(boot, defect)


@mutant(kills="interventions/composition")
def last_hook_wins(boot: Boot) -> None:
    """Every hook at a place is given the tensor as it was, and the last return is used."""

    def defect(bridge: Any) -> None:
        name = inner_hook(bridge)
        point = bridge.hook_dict[name]

        def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
            returned = [handle.user_hook(tensor, hook=point) for handle in point.fwd_hooks]
            return next((value for value in reversed(returned) if value is not None), tensor)

        around_firing(bridge, name, fire)

    on_bridge(boot, defect)


@mutant(kills="interventions/upstream")
def written_into_the_old_tensor(boot: Boot) -> None:
    """What a hook returns is copied into the tensor that it was shown, which the layer before has shown as its own."""
    entering, leaving = boot.spec.streams
    kept: list[Any] = []

    def keep(inner: Callable[[Any], Any], tensor: Any) -> Any:
        kept[:] = [tensor]
        return inner(tensor)

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        returned = inner(tensor)
        # With gradients torch itself refuses the write.
        if returned is not tensor and not returned.requires_grad:
            kept[0].copy_(returned)
        return returned

    def defect(bridge: Any) -> None:
        around_firing(bridge, leaving.replace("{layer}", str(boot.layers - 2)), keep)
        around_firing(bridge, entering.replace("{layer}", str(boot.layers - 1)), fire)

    on_bridge(boot, defect)


@mutant(kills="interventions/upstream")
def one_entry_for_two_moments(boot: Boot) -> None:
    """The end of a layer and the start of the next share an entry of the cache, taken when edits have been made."""
    entering, leaving = boot.spec.streams

    def change(entries: Entries, options: Entries) -> Entries:
        hooks = boot.bridge.hook_dict
        for layer in range(1, boot.layers):
            early = hooks[leaving.replace("{layer}", str(layer - 1))].name
            late = hooks[entering.replace("{layer}", str(layer))].name
            if early in entries and late in entries:
                entries = {**entries, early: entries[late]}
        return entries

    caching(boot, change)


@mutant(kills="interventions/edits")
def edits_the_neighbour(boot: Boot) -> None:
    """What a hook changes at a position is applied to the next one."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        returned = inner(tensor)
        return returned if returned is tensor else tensor + (returned - tensor).roll(1, dims=1)

    on_bridge(boot, lambda bridge: around_firing(bridge, inner_hook(bridge), fire))


@mutant(kills="interventions/edits")
def edits_one_layer_late(boot: Boot) -> None:
    """What a hook changes at the start of a layer enters the stream at its end, when the layer has run without it."""
    entering, leaving = (name.replace("{layer}", "0") for name in boot.spec.streams)
    kept: list[Any] = []

    def early(inner: Callable[[Any], Any], tensor: Any) -> Any:
        kept[:] = [inner(tensor) - tensor]
        return tensor

    def late(inner: Callable[[Any], Any], tensor: Any) -> Any:
        return inner(tensor) + kept[0]

    def defect(bridge: Any) -> None:
        around_firing(bridge, entering, early)
        around_firing(bridge, leaving, late)

    on_bridge(boot, defect)
