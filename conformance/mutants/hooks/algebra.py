"""Terms of the residual stream that are not what their names say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...facts import Chunk
from .. import mutant
from ..surgery import around_firing, first, on_bridge, redeclare, shown_twice_as_large

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/residual-algebra")
def branch_alias_on_a_dead_hook(boot: Boot) -> None:
    """`hook_attn_out` stands for a container that is never called, so the sum has a term without a value.

    TransformerLens PR #1673: components mapped to classes that cannot express them.
    """
    layer, pair = "blocks.0.", next(iter(boot.afresh().pairs.values()))
    dead = (name for name in pair.names if name.startswith(layer) and name not in pair.observed.taps)
    target = first(dead, "a hook that never fires").removeprefix(layer)
    on_bridge(boot, lambda bridge: redeclare(bridge, "blocks.0", "hook_attn_out", target))


@mutant(kills="hooks/residual-algebra")
def folded_in_one_layer_only(boot: Boot) -> None:
    """A bias that was folded away shows in the stream of one layer and in no other (TransformerLens PR #1510)."""

    def show(fire: Callable[[Any], Any], tensor: Any) -> Any:
        fire(tensor + 1)
        return tensor

    def defect(bridge: Any) -> None:
        for name in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post"):
            around_firing(bridge, f"blocks.1.{name}", show)

    on_bridge(boot, defect)


@mutant(kills="hooks/gated-branches")
def gates_in_another_order(boot: Boot) -> None:
    """The modulation is shown with its parts in another order than the model uses: the gate is another one's.

    TransformerLens #1648: terms captured beside the multiplier that they enter the stream with.
    """
    gate = first((branch.gate for branch in boot.spec.branches if isinstance(branch.gate, Chunk)), "a gate on a branch")

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        width = tensor.shape[-1] // gate.of
        return inner(tensor.roll(width, dims=-1)).roll(-width, dims=-1)

    on_bridge(boot, lambda bridge: around_firing(bridge, gate.hook.replace("{layer}", "0"), fire))


@mutant(kills="hooks/gated-branches")
def gate_without_its_half(boot: Boot) -> None:
    """A gate that halves what passes is shown as it is before it is halved (TransformerLens #1648)."""
    gates = (branch.gate for branch in boot.spec.branches if isinstance(branch.gate, str))
    gate = first(gates, "a hook at the gate of a branch").replace("{layer}", "0")
    on_bridge(boot, lambda bridge: shown_twice_as_large(bridge, gate))
