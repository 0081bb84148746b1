"""Bridges that share what should be their own, or leave it on a model that was lent to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, around_firing, inner_hook, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/deepcopy")
def copy_with_the_same_config(boot: Boot) -> None:
    """A copy has the config of the original, so that a switch on one rewires the other (TransformerLens PR #1770)."""

    def defect(bridge: Any) -> None:
        config = bridge.cfg
        object.__setattr__(config, "__deepcopy__", lambda memo: config)

    on_bridge(boot, defect)


@mutant(kills="hooks/deepcopy")
def copy_with_the_same_weights(boot: Boot) -> None:
    """A copy shares a weight with the original, which changes when the copy is edited."""

    def defect(bridge: Any) -> None:
        weight = next(bridge.parameters())
        weight.__deepcopy__ = lambda memo: weight

    on_bridge(boot, defect)


@mutant(kills="hooks/deepcopy")
def copy_with_the_same_hooks(boot: Boot) -> None:
    """A copy shares a hook point with the original: what is attached to one fires in both."""

    def defect(bridge: Any) -> None:
        point = bridge.hook_dict[inner_hook(bridge)]
        object.__setattr__(point, "__deepcopy__", lambda memo: point)

    on_bridge(boot, defect)


@mutant(kills="hooks/load-path")
def silent_around_a_given_model(boot: Boot) -> None:
    """A hook never fires on a bridge that was booted around a model instead of by path.

    TransformerLens prepared only models that it had loaded itself, and their attention alone showed its pattern.
    """

    def boot_again(inner: Callable[..., Any], hf_model: Any = None) -> Any:
        bridge = inner(hf_model)
        if hf_model is not None:
            around_firing(bridge, inner_hook(bridge), lambda fire, tensor: tensor)
        return bridge

    around(boot, "boot_again", boot_again)


@mutant(kills="hooks/native-clean")
def attribute_on_the_model_below(boot: Boot) -> None:
    """An assignment to a component is handed on to the module that it wraps, where no one looks for it."""

    def defect(bridge: Any) -> None:
        bridge.blocks[0].original_component.hook_aliases = {"hook_attn_out": "attn.hook_out"}

    on_bridge(boot, defect)
