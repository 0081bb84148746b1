"""Scores and patterns that do not belong together, in a bridge that is given hooks for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around_firing, having, on_bridge

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
    """Let every layer show what `change(plain scores, masked scores)` makes, by its own hooks or by new ones.

    Behind a layer's own hooks nobody knows what the scores were without the mask: those that it hides count as zero.
    """
    pair = next(iter(boot.afresh().pairs.values()))
    own = "blocks.0.attn.hook_pattern" in pair.observed.taps
    joint = "blocks.{layer}.attn.qkv" in boot.spec.points
    having(own or joint or None, "patterns that it shows, nor a joint projection to make them of")

    def defect(bridge: Any) -> None:
        if own:
            for layer in range(bridge.cfg.n_layers):
                _show_otherwise(bridge, f"blocks.{layer}.attn", change)
            return
        config = bridge.original_model.config
        sizes = {name: getattr(config, field) for name, field in boot.spec.sizes.items()}
        for layer in range(sizes["layers"]):
            _show_in(bridge, f"blocks.{layer}.attn", boot.spec.layouts, sizes, change)

    on_bridge(boot, defect)


def _show_otherwise(bridge: Any, attn: str, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    def show(index: int, fire: Callable[[Any], Any], tensor: Tensor) -> Any:
        # Scores may be off by what all of a row's have in common.
        masked = tensor if index == 0 else tensor.log()
        shown = change(masked.nan_to_num(neginf=0.0), masked)[index]
        got = fire(shown)
        return tensor if got.equal(shown) else got

    for index, name in enumerate(("hook_attn_scores", "hook_pattern")):
        around_firing(bridge, f"{attn}.{name}", partial(show, index))


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
