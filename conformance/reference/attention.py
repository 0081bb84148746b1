"""Attention of a block diffusion model, head by head: fused while no one listens to scores or pattern."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.generalized_components import LinearBridge
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent


def heard(*points: HookPoint) -> bool:
    """Whether anyone listens to one of these hook points, forward or backward."""
    return any(point.has_hooks(dir="both") for point in points)


def watched(point: Callable[[Tensor], Tensor], tensor: Tensor) -> tuple[Tensor, bool]:
    """What a hook point makes of a tensor, and whether it is another one now: replaced, or changed in place."""
    before = _version(tensor)
    after = point(tensor)
    return after, after is not tensor or before is None or _version(after) != before


def apart(tensor: Tensor, *points: HookPoint, saved: bool = False) -> Tensor:
    """A tensor that is needed again, or a copy for hooks that listen to it, as they may edit it in place.

    It is needed by what stands beside the hook, such as a skip connection, or, `saved`, by its own gradient alone.
    """
    return tensor.clone() if (torch.is_grad_enabled() or not saved) and heard(*points) else tensor


def _version(tensor: Tensor) -> int | None:
    # Tensors of inference mode count no changes: there, whoever listens may have edited.
    return None if tensor.is_inference() else tensor._version


class _Value(torch.autograd.Function):
    """The value of one tensor with the gradient of another that is equal but for rounding."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, graded: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient

    @staticmethod
    def jvp(ctx: Any, value: Tensor | None, graded: Tensor) -> Tensor:
        return graded


def observed(value: Tensor, explicit: Callable[[], Tensor]) -> Tensor:
    """What a kernel gives where its steps are observed: the same bits, with the gradient of the steps."""
    if not torch.is_grad_enabled():
        return value
    same: Tensor = _Value.apply(value.detach(), explicit())  # type: ignore[no-untyped-call]
    return same


def parts(x: Tensor, count: int) -> list[Tensor]:
    """Equal parts of the last axis; each a view by itself, which may be edited in place under autograd too."""
    width = x.shape[-1] // count
    return [x[..., start : start + width] for start in range(0, count * width, width)]


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of all channels, channel i with i + d/2; `batch pos head d_head`, tables `pos d_head`."""
    left, right = x.chunk(2, dim=-1)
    cos, sin = (table[None, :, None].to(x.dtype) for table in (cos, sin))
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class BlockDiffusionAttentionBridge(GeneralizedComponent):
    """Joint projection, rotation, masked softmax and output projection of one block.

    The remote block has no module for attention, so this one stands for the block itself and uses two of its parts.
    Hooks: `hook_q`, `hook_k`, `hook_v`, `hook_rot_q`, `hook_rot_k` and `hook_z` are `batch pos head d_head`;
    `hook_mask` is what is added to the scores, `batch 1 query key`, and an edit may return one for every head;
    `hook_attn_scores` and `hook_pattern` are `batch head query key`; `hook_result`, behind
    `use_attn_result`, is `batch pos head d_model`.

    The fused kernel gives z, bit for bit, whether scores and pattern are observed or not; where they are, its gradient
    goes through them, and once one of them is edited, z is computed from the pattern.
    """

    supports_attn_result = True
    config: Any

    def __init__(self, config: Any):
        super().__init__(
            name=None,
            config=config,
            submodules={"qkv": LinearBridge(name="attn_qkv"), "o": LinearBridge(name="attn_out")},
        )
        for name in ("q", "k", "v", "rot_q", "rot_k", "mask", "attn_scores", "pattern", "z", "result"):
            setattr(self, f"hook_{name}", HookPoint())
        self.hook_mask.pos_dim = -2

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor, causal: bool, store_kv: bool = False
    ) -> Tensor:
        """What attention puts out before its gate, `batch pos d_model`.

        Args:
            x: the modulated stream, `batch pos d_model`.
            rotary: cosines and sines, `key d_head`; queries are the last of the keys.
            mask: added to the scores, `query key`.
            causal: whether `mask` is the causal one, for which the fused kernel needs no mask.
            store_kv: whether the keys and values of an open cache stay for the forwards after this one.
        """
        qkv = self.qkv(self.hook_in(x))
        q, k, v = (part.unflatten(-1, (self.config.n_heads, -1)) for part in parts(qkv, 3))
        block: Any = self.original_component
        if block.kv_cache is not None:
            k, v = self._joined(qkv, k, v, store_kv)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        cos, sin = rotary
        length = q.shape[1]
        q = self.hook_rot_q(rotated(q, cos[-length:], sin[-length:]))
        k = self.hook_rot_k(rotated(k, cos, sin))
        z = self._attended(q, k, v, mask.to(q.dtype), causal)
        z = self.hook_z(apart(z, self.hook_z, self.o.hook_in, saved=True))
        out: Tensor = self.hook_out(self._projected(z))
        return out

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, causal: bool) -> Tensor:
        """Weighted values, `batch pos head d_head`."""
        if heard(self.hook_mask):
            # One mask serves all layers and rows; an edit in place is this layer's and its row's alone.
            mask, masked = watched(self.hook_mask, mask.expand(len(q), 1, *mask.shape).clone())
            causal = causal and not masked
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=None if causal else mask, is_causal=causal)
        if heard(self.hook_attn_scores, self.hook_pattern):
            scores, scored = watched(self.hook_attn_scores, q @ k.mT / math.sqrt(q.shape[-1]) + mask)
            weights = apart(scores.softmax(dim=-1), self.hook_pattern, saved=True)
            pattern, weighed = watched(self.hook_pattern, weights)
            z = pattern @ v if scored or weighed else observed(z, lambda: pattern @ v)
        return z.transpose(1, 2)

    def _projected(self, z: Tensor) -> Tensor:
        """Heads to the stream: in one product, or head by head behind the flag."""
        out: Tensor
        if not self.config.use_attn_result:
            out = self.o(z.flatten(2))
            return out
        z = self.o.hook_in(z.flatten(2)).unflatten(-1, (self.config.n_heads, -1))
        result = self.hook_result(torch.einsum("bphd,hdm->bphm", z, self.W_O))
        out = self.o.hook_out(result.sum(dim=-2))
        return out

    def _joined(self, qkv: Tensor, k: Tensor, v: Tensor, store_kv: bool) -> tuple[Tensor, Tensor]:
        """Keys and values of the past before those of this block; the cache of the remote block holds them unrotated.

        A full cache loses its first block, so that positions count from 0 in what is left (2503.09573, section 3.2).
        """
        block: Any = self.original_component
        start, size = block.cache_idx, qkv.shape[1]
        past = block.kv_cache[:, :start].to(qkv.dtype)
        _, past_k, past_v = (part.unflatten(-1, k.shape[2:]) for part in parts(past, 3))
        block.kv_cache[:, start : start + size] = qkv.detach()
        if store_kv:
            block.cache_idx = start + size
            if block.cache_idx >= block.n:
                block.cache_idx = block.n - size
                block.kv_cache = block.kv_cache.roll(-size, dims=1)
        return torch.cat((past_k, k), dim=1), torch.cat((past_v, v), dim=1)

    def _head_weights(self, index: int) -> Tensor:
        weight: Tensor = self.qkv.weight.chunk(3)[index]
        heads: Tensor = weight.unflatten(0, (self.config.n_heads, -1)).mT
        return heads

    @property
    def b_Q(self) -> Tensor:
        """Zeros, `head d_head`: no projection has a bias."""
        return self.W_Q.new_zeros(self.W_Q.shape[::2])

    b_K = b_V = b_Q

    @property
    def b_O(self) -> Tensor:
        """Zeros, `d_model`: no projection has a bias."""
        return self.W_O.new_zeros(self.W_O.shape[-1])

    @property
    def W_Q(self) -> Tensor:
        """Query weights, `head d_model d_head`, a view of the parameter."""
        return self._head_weights(0)

    @property
    def W_K(self) -> Tensor:
        """Key weights, `head d_model d_head`, a view of the parameter."""
        return self._head_weights(1)

    @property
    def W_V(self) -> Tensor:
        """Value weights, `head d_model d_head`, a view of the parameter."""
        return self._head_weights(2)

    @property
    def W_O(self) -> Tensor:
        """Output weights, `head d_head d_model`, a view of the parameter."""
        weight: Tensor = self.o.weight
        heads: Tensor = weight.mT.unflatten(0, (self.config.n_heads, -1))
        return heads
