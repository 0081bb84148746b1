"""Names that lie, twins, and components that stand for other modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import advertise, become, on_bridge, redeclare, refuse

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/names")
def alias_is_a_twin(boot: Boot) -> None:
    """An alias is a second hook point under the same name, and never fires (TransformerLens PR #1098)."""
    alias = boot.spec.streams[0].replace("{layer}", "0")

    def defect(bridge: Any) -> None:
        from transformer_lens.hook_points import HookPoint

        twin = HookPoint()
        twin.name = bridge.hook_dict[alias].name
        advertise(bridge, lambda registry: {**registry, alias: twin})

    on_bridge(boot, defect)


@mutant(kills="hooks/names")
def alias_without_grammar(boot: Boot) -> None:
    """A hook is advertised under a name that no filter for `hook_` finds."""
    target = boot.spec.streams[0].replace("{layer}", "0")

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: {**registry, "blocks.0.resid": registry[target]})

    on_bridge(boot, defect)


@mutant(kills="hooks/pairing")
def norms_change_places(boot: Boot) -> None:
    """Who asks the bridge for `ln1` of a block is given `ln2`: weights are read crosswise, and computed with aright."""

    def defect(bridge: Any) -> None:
        blocks = [_Crosswise(block) for block in bridge.blocks]
        become(bridge, blocks=property(lambda self: blocks))

    on_bridge(boot, defect)


class _Crosswise:
    """A block whose norms have changed places, to all who look at it from outside."""

    def __init__(self, block: Any) -> None:
        self._block = block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, {"ln1": "ln2", "ln2": "ln1"}.get(name, name))


@mutant(kills="hooks/complete")
def dropped(boot: Boot) -> None:
    """The output hook of a component is gone from `hook_dict` and with it every notebook that uses it."""

    def defect(bridge: Any) -> None:
        # One that no alias stands for, so that nothing but the name itself is missing.
        aliased = {point.name for name, point in bridge.hook_dict.items() if point.name != name}
        outputs = (f"{name}.hook_out" for name in boot.spec.points if "{" not in name)
        gone = next(name for name in outputs if name not in aliased)
        advertise(bridge, lambda registry: {name: point for name, point in registry.items() if name != gone})

    on_bridge(boot, defect)


@mutant(kills="hooks/complete")
def refused_at_a_point(boot: Boot) -> None:
    """A hook at a component that the spec names is refused, in clear words, to have one less to get right."""
    refused = f"{next(iter(boot.spec.points))}.hook_out"

    def defect(bridge: Any) -> None:
        refuse(bridge, lambda asked: asked == refused, f"{refused} takes no hooks")

    on_bridge(boot, defect)


@mutant(kills="hooks/standard-names")
def nameless_norms(boot: Boot) -> None:
    """The normed stream loses the name that every notebook uses (TransformerLens #1796: promised, not there)."""

    def defect(bridge: Any) -> None:
        name = "ln1.hook_normalized"
        advertise(bridge, lambda registry: {n: p for n, p in registry.items() if not n.endswith(name)})

    on_bridge(boot, defect)


@mutant(kills="hooks/aliases")
def alias_that_leads_nowhere(boot: Boot) -> None:
    """A layer declares an alias for a hook that does not exist, which is dropped (TransformerLens PR #1256)."""
    on_bridge(boot, lambda bridge: redeclare(bridge, "blocks.0", "hook_attn_in", "attn.hook_before"))


@mutant(kills="hooks/aliases")
def alias_map_out_of_date(boot: Boot) -> None:
    """A layer declares another target for one of its aliases, and the map of aliases in use does not hear of it.

    TransformerLens kept its map as long as the number of hooks stayed the same.
    """

    def defect(bridge: Any) -> None:
        kept = dict(bridge.hook_dict)
        redeclare(bridge, "blocks.1", "hook_attn_out", "attn.qkv.hook_out")
        advertise(bridge, lambda registry: kept)

    on_bridge(boot, defect)
