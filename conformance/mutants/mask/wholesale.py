"""Masks that are wrong for everyone: of another kind of model, shifted, swapped, with a leak, or left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest import mock

from .. import mutant
from ..surgery import around, first, having, masked, on_bridge
from .relation import at_own_size, holder

if TYPE_CHECKING:
    from torch import Tensor

    from ...subject import Boot


def _holding(boot: Boot, change: Callable[[Tensor], Tensor]) -> None:
    """Let the model hold another mask."""
    layout = masked(boot)

    def defect(bridge: Any) -> None:
        owner, name = holder(bridge, layout)
        setattr(owner, name, change(getattr(owner, name)))

    at_own_size(boot, defect)


@mutant(kills="mask/relation-tensor")
def causal(boot: Boot) -> None:
    """The mask is that of a model that predicts the next token: nobody sees what comes after him."""
    _holding(boot, lambda held: held.tril())


@mutant(kills="mask/relation-tensor")
def a_block_off(boot: Boot) -> None:
    """The relation is that of the next block: its index starts at one."""
    block = having(boot.sizes.get("block"), "blocks")
    _holding(boot, lambda held: held.roll(block, dims=1))


@mutant(kills="mask/relation-tensor")
def halves_swapped(boot: Boot) -> None:
    """The clean half stands before the noisy one."""
    having(boot.spec.halves, "a stream in two halves")
    n = boot.sizes["n"]
    _holding(boot, lambda held: held.roll((n, n), dims=(0, 1)))


@mutant(kills="mask/relation-tensor")
def own_clean_block_visible(boot: Boot) -> None:
    """A noisy block sees its own tokens in the clean half: the answer leaks, and the loss is wonderful."""
    having(boot.spec.halves, "a stream in two halves")
    n, block = boot.sizes["n"], having(boot.sizes.get("block"), "blocks")

    def leaks(held: Tensor) -> Tensor:
        import torch

        leaking, own = held.clone(), torch.arange(n) // block
        leaking[:n, n:] |= own[:, None] == own
        return leaking

    _holding(boot, leaks)


@mutant(kills="mask/relation")
def causal_kernel(boot: Boot) -> None:
    """Fused attention is called as in a model that predicts the next token, on top of any mask."""
    import torch

    kernel = torch.nn.functional.scaled_dot_product_attention
    used: list[bool] = []

    def causal(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **rest: Any) -> Any:
        used.append(True)
        queries, keys = query.shape[-2], key.shape[-2]
        earlier: Any = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        if attn_mask is not None:
            boolean = attn_mask.dtype is torch.bool
            earlier = earlier & attn_mask if boolean else attn_mask.masked_fill(~earlier, -torch.inf)
        return kernel(query, key, value, earlier, **{**rest, "is_causal": False})

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with mock.patch.object(torch.nn.functional, kernel.__name__, causal):
            return inner(*args, **kwargs)

    clean = boot.afresh()
    clean.amend = lambda bridge: around(bridge, "forward", forward)
    next(iter(clean.pairs.values())).call()
    first(iter(used), "fused attention")
    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="mask/relation")
def padding_ignored(boot: Boot) -> None:
    """The mask that a caller hands over is dropped on the way: padding is attended to (TransformerLens #1607)."""
    layouts = (layout for layout in boot.spec.layouts if layout.handed("attention_mask"))
    first(layouts, "a layout with a mask that is handed over")

    def forward(inner: Callable[..., Any], *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))
