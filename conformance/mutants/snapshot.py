"""snapshot: changes between two releases that no other check has an opinion on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import mutant
from .surgery import advertise, around, on_bridge, output_layer

if TYPE_CHECKING:
    from ..subject import Boot


@mutant(kills="snapshot/hook-tree")
def one_alias_more(boot: Boot) -> None:
    """A release adds a second name for a hook, which nothing promises to keep."""
    stream = boot.spec.streams[0].replace("{layer}", "0")

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: {**registry, "blocks.0.hook_resid_start": registry[stream]})

    on_bridge(boot, defect)


@mutant(kills="snapshot/hook-tree")
def one_alias_less(boot: Boot) -> None:
    """A release takes a name away that stood for the same hook as another (TransformerLens #1796 had promised one)."""
    stream = boot.spec.streams[1].replace("{layer}", "0")

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: {name: point for name, point in registry.items() if name != stream})

    on_bridge(boot, defect)


@mutant(kills="snapshot/component-map")
def another_module(boot: Boot) -> None:
    """A component is mapped to a module under another path than before."""
    name, path = output_layer(boot)

    def defect(bridge: Any) -> None:
        object.__setattr__(bridge.adapter.component_mapping[name], "name", f"{path}_1")

    on_bridge(boot, defect)


@mutant(kills="snapshot/component-map")
def another_class(boot: Boot) -> None:
    """A component is mapped to another bridge class than before (TransformerLens PR #1673)."""
    name, _ = output_layer(boot)

    def defect(bridge: Any) -> None:
        template = bridge.adapter.component_mapping[name]
        object.__setattr__(template, "__class__", type("OtherBridge", (type(template),), {}))

    on_bridge(boot, defect)


@mutant(kills="snapshot/config")
def another_default(boot: Boot) -> None:
    """A default of cfg changes its value without a word (TransformerLens #1272)."""

    def defect(bridge: Any) -> None:
        name = next(name for name, value in sorted(vars(bridge.cfg).items()) if value is False)
        setattr(bridge.cfg, name, True)

    on_bridge(boot, defect)


@mutant(kills="snapshot/capabilities")
def another_error(boot: Boot) -> None:
    """A capability is refused as clearly as before, by another kind of error than users catch."""

    def defect(bridge: Any) -> None:
        around(bridge, "generate", refused)

    def refused(_: Any, *args: Any, **kwargs: Any) -> None:
        raise ValueError("generate: text comes from the denoising loop")

    on_bridge(boot, defect)
