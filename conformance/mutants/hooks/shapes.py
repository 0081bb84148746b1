"""Tensors whose dimensions are not what their names say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around_firing, inner_hook, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/shapes")
def flattened(boot: Boot) -> None:
    """A hook is shown batch and positions as one dimension, so that position 3 is row 0's (TransformerLens, OPT)."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        return inner(tensor.flatten(0, 1)).view_as(tensor)

    on_bridge(boot, lambda bridge: around_firing(bridge, inner_hook(bridge), fire))


@mutant(kills="hooks/shapes")
def heads_split_off_the_stream(boot: Boot) -> None:
    """A hook on the residual stream is shown heads, and has a rank that no analysis expects.

    TransformerLens PR #1191 the other way round: `hook_result` had lost its heads.
    """
    heads = boot.sizes["heads"]

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        return inner(tensor.unflatten(-1, (heads, -1))).flatten(-2)

    on_bridge(boot, lambda bridge: around_firing(bridge, "blocks.1.ln1.hook_normalized", fire))


@mutant(kills="hooks/position-axis")
def positions_declared_elsewhere(boot: Boot) -> None:
    """A hook point declares its last dimension as the position, which is the width (TransformerLens PR #1682)."""
    name = boot.spec.streams[1].replace("{layer}", "0")

    def defect(bridge: Any) -> None:
        bridge.hook_dict[name].pos_dim = -1

    on_bridge(boot, defect)
