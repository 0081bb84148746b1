"""Scores and patterns that do not belong together, in a bridge that is given hooks for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around_firing, on_bridge

if TYPE_CHECKING:
    from torch import Tensor

    from ...layout import Layout
    from ...subject import Boot


@mutant(kills="hooks/pattern")
def pattern_without_the_mask(boot: Boot) -> None:
    """`hook_pattern` shows weights that were made without the mask: every query attends to everything."""
    _show(boot, lambda plain, masked: (masked, plain.softmax(dim=-1)))


@mutant(kills="hooks/pattern")
def scores_without_their_scale(boot: Boot) -> None:
    """`hook_attn_scores` shows q k, before it is divided by the root of the head's width."""
    width = boot.sizes["d_model"] // boot.sizes["heads"]
    _show(boot, lambda _, masked: (masked * math.sqrt(width), masked.softmax(dim=-1)))


@mutant(kills="hooks/pattern")
def pattern_that_leaks(boot: Boot) -> None:
    """Masked scores are very low and not -inf, so that every query attends a little to what it must not see.

    TransformerLens #1692: the smallest number of the dtype for -inf; here large enough to stay visible.
    """

    def leak(plain: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        scores = masked.nan_to_num(neginf=-20.0)
        return scores, scores.softmax(dim=-1)

    _show(boot, leak)


def _show(boot: Boot, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Give every layer hooks for what `change(plain scores, masked scores)` makes, between projection and output."""

    def defect(bridge: Any) -> None:
        config = bridge.original_model.config
        sizes = {name: getattr(config, field) for name, field in boot.spec.sizes.items()}
        for layer in range(sizes["layers"]):
            _show_in(bridge, f"blocks.{layer}.attn", boot.spec.layouts, sizes, change)

    on_bridge(boot, defect)


def _show_in(
    bridge: Any,
    attn: str,
    layouts: tuple[Layout, ...],
    sizes: dict[str, int],
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> None:
    import torch
    from transformer_lens.hook_points import HookPoint

    kept: list[Tensor] = []
    points = HookPoint(), HookPoint()
    for point, name in zip(points, ("hook_attn_scores", "hook_pattern"), strict=True):
        point.name = f"{attn}.{name}"
        bridge._hook_registry[point.name] = point

    def keep(fire: Callable[[Any], Any], tensor: Tensor) -> Any:
        got = fire(tensor)
        kept.append(got)
        return got

    def show(fire: Callable[[Any], Any], tensor: Tensor) -> Any:
        q, k, _ = torch.cat(kept, dim=1).unflatten(-1, (3, sizes["heads"], -1)).float().unbind(dim=2)
        kept.clear()
        plain = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
        index = torch.arange(q.shape[1])
        layout = next(layout for layout in layouts if layout.length(sizes) == len(index))
        attends = layout.relation(index[:, None], index[None, :], sizes["n"], sizes["block"])
        for point, value in zip(points, change(plain, plain.masked_fill(~attends, -torch.inf)), strict=True):
            point(value)
        return fire(tensor)

    around_firing(bridge, f"{attn}.qkv.hook_out", keep)
    around_firing(bridge, f"{attn}.o.hook_in", show)
