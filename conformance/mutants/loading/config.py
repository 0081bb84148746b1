"""Bridges that are not honest about themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import first, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/config-truths")
def a_field_is_off(boot: Boot) -> None:
    """One number in cfg is not the model's (TransformerLens PR #1355: fields of the config were dropped)."""
    from ...sizes import Size

    sized = {name: truth.of(boot.sizes) for name, truth in boot.spec.truths.items() if isinstance(truth, Size)}

    def defect(bridge: Any) -> None:
        name = [name for name, truth in sized.items() if getattr(bridge.cfg, name, None) == truth][-1]
        setattr(bridge.cfg, name, sized[name] + 1)

    on_bridge(boot, defect)


@mutant(kills="loading/config-truths")
def a_field_is_a_list(boot: Boot) -> None:
    """One field of cfg holds a list where a number is meant."""
    whole = [name for name, truth in boot.spec.truths.items() if isinstance(truth, int)]
    name = first(whole[-1:], "a truth that is a whole number")
    on_bridge(boot, lambda bridge: setattr(bridge.cfg, name, [boot.spec.truths[name]]))
