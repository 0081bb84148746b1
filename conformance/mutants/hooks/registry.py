"""Names that lie, twins, and components that stand for other modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import advertise, on_bridge, refuse

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
    """After the hooks have their names, `ln1` and `ln2` of a block change places: their weights are read crosswise."""

    def defect(bridge: Any) -> None:
        parts = bridge.blocks[0]._modules
        parts["ln1"], parts["ln2"] = parts["ln2"], parts["ln1"]

    on_bridge(boot, defect)


@mutant(kills="hooks/complete")
def dropped(boot: Boot) -> None:
    """The output hook of a component is gone from `hook_dict` and with it every notebook that uses it."""
    name = next(iter(boot.spec.points))

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: {n: p for n, p in registry.items() if p.name != f"{name}.hook_out"})

    on_bridge(boot, defect)


@mutant(kills="hooks/complete")
def refused_at_a_point(boot: Boot) -> None:
    """A hook at a component that the spec names is refused, in clear words, to have one less to get right."""
    refused = f"{next(iter(boot.spec.points))}.hook_out"

    def defect(bridge: Any) -> None:
        refuse(bridge, lambda asked: asked == refused, f"{refused} takes no hooks")

    on_bridge(boot, defect)


@mutant(kills="hooks/standard-names")
def nameless_activations(boot: Boot) -> None:
    """The MLP's activations lose the name that every notebook uses (TransformerLens #1796: promised, not there)."""

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: {n: p for n, p in registry.items() if not n.endswith("mlp.hook_pre")})

    on_bridge(boot, defect)
