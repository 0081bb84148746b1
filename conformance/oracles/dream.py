"""Dream as plain equations, with a tap at every point that a complete bridge has a name for.

Source: Ye et al., "Dream 7B: Diffusion Large Language Models" (arXiv 2508.15487), a transformer as Qwen2
(arXiv 2407.10671) without the causal mask: root mean square norms (arXiv 1910.07467), rotary positions
(arXiv 2104.09864), biased projections to queries, keys and values, heads that share keys and values
(arXiv 2305.13245), a gated MLP (arXiv 2002.05202, "SwiGLU"). Nothing here is shared with the miniature: attention is
an explicit softmax over einsums, the rotary angles are made in the dtype of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

Tap = Callable[[str, Tensor], Tensor]


def forward(params: Mapping[str, Tensor], config: Mapping[str, Any], inputs: Mapping[str, Any], tap: Tap) -> Tensor:
    """Raw logits `batch pos d_vocab`; row i speaks of token i + 1.

    Args:
        params: checkpoint tensors by name; their dtype is the dtype of the computation.
        config: fields of config.json.
        inputs: `input_ids` (batch stream), optional `attention_mask` ("full", or batch|1 heads|1 query key: bool where
            True may attend, else additive) and `position_ids` (batch|1 stream).
        tap: called as `tap(hook_name, tensor)` in data-flow order; what it returns is used instead.
    """
    ids, embedding = inputs["input_ids"], params["model.embed_tokens.weight"]
    x = tap("hook_embed", tap("embed.hook_out", embedding[tap("embed.hook_in", ids)]))
    positions = inputs.get("position_ids")
    if positions is None:
        positions = torch.arange(ids.shape[1])[None]
    tables = _tables(config, tap("rotary_emb.hook_in", x), positions, tap)
    mask = _additive_mask(inputs, embedding.dtype)
    for layer in range(config["num_hidden_layers"]):
        x = _block(params, config, layer, x, tables, mask, tap)
    x = _norm(params["model.norm.weight"], config, x, "ln_final", tap)
    return tap("hook_unembed", _linear(params, "lm_head", x, "unembed", tap))


def _tables(config: Mapping[str, Any], x: Tensor, positions: Tensor, tap: Tap) -> tuple[Tensor, Tensor]:
    """Cosines and sines `batch|1 pos d_head` of position * θ^(-2i/d), channel i paired with i + d/2."""
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    omega = float(config["rope_theta"]) ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = positions.to(x.dtype)[..., None] * omega.repeat(2)
    return tap("rotary_emb.hook_cos", angle.cos()), tap("rotary_emb.hook_sin", angle.sin())


def _additive_mask(inputs: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """What is added to the scores, `batch|1 heads|1 query key`; "full" and None hide nothing."""
    given, length = inputs.get("attention_mask"), inputs["input_ids"].shape[1]
    if not isinstance(given, Tensor):
        return torch.zeros(1, 1, length, length, dtype=dtype)
    if given.dtype is torch.bool:
        return torch.zeros(given.shape, dtype=dtype).masked_fill(~given, -torch.inf)
    return given.to(dtype)


def _block(
    params: Mapping[str, Tensor],
    config: Mapping[str, Any],
    layer: int,
    x: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor,
    tap: Tap,
) -> Tensor:
    """One layer on the residual stream `batch pos d_model`."""
    here, there = f"blocks.{layer}", f"model.layers.{layer}"
    x = tap(f"{here}.hook_resid_pre", tap(f"{here}.hook_in", x))
    normed = _norm(params[f"{there}.input_layernorm.weight"], config, x, f"{here}.ln1", tap)
    x = x + tap(f"{here}.hook_attn_out", _attention(params, config, layer, normed, tables, mask, tap))

    x = tap(f"{here}.hook_resid_mid", x)
    normed = _norm(
        params[f"{there}.post_attention_layernorm.weight"], config, tap(f"{here}.hook_mlp_in", x), f"{here}.ln2", tap
    )
    normed = tap(f"{here}.mlp.hook_in", normed)
    gate = tap(f"{here}.mlp.hook_pre", _linear(params, f"{there}.mlp.gate_proj", normed, f"{here}.mlp.gate", tap))
    up = tap(f"{here}.mlp.hook_pre_linear", _linear(params, f"{there}.mlp.up_proj", normed, f"{here}.mlp.in", tap))
    hidden = tap(f"{here}.mlp.hook_post", silu(gate) * up)
    branch = tap(f"{here}.mlp.hook_out", _linear(params, f"{there}.mlp.down_proj", hidden, f"{here}.mlp.out", tap))
    x = x + tap(f"{here}.hook_mlp_out", branch)
    return tap(f"{here}.hook_out", tap(f"{here}.hook_resid_post", x))


def _attention(
    params: Mapping[str, Tensor],
    config: Mapping[str, Any],
    layer: int,
    x: Tensor,
    tables: tuple[Tensor, Tensor],
    mask: Tensor,
    tap: Tap,
) -> Tensor:
    """Softmax attention; per-head tensors are `batch pos head d_head`, scores `batch head query key`.

    Heads stand in groups of equal size, one group to a head of keys and values.
    """
    here, there = f"blocks.{layer}.attn", f"model.layers.{layer}.self_attn"
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    x = tap(f"{here}.hook_in", tap(f"blocks.{layer}.hook_attn_in", x))
    q, k, v = (
        _heads(params, f"{there}.{name}_proj", x, count, layer, name, tap)
        for name, count in (("q", heads), ("k", groups), ("v", groups))
    )
    q, k = tap(f"{here}.hook_rot_q", _rotate(q, tables)), tap(f"{here}.hook_rot_k", _rotate(k, tables))
    grouped = q.unflatten(2, (groups, -1))
    scores = torch.einsum("bqgsd,bkgd->bgsqk", grouped, k).flatten(1, 2) / math.sqrt(q.shape[-1])
    scores = tap(f"{here}.hook_attn_scores", scores + tap(f"{here}.hook_mask", mask))
    # As torch has it: a query that may attend to nothing gets nothing.
    nothing = (scores == -torch.inf).all(dim=-1, keepdim=True)
    pattern = scores.masked_fill(nothing, 0.0).softmax(dim=-1).masked_fill(nothing, 0.0)
    pattern = tap(f"{here}.hook_pattern", pattern)
    z = torch.einsum("bgsqk,bkgd->bqgsd", pattern.unflatten(1, (groups, -1)), v).flatten(2, 3)
    z = tap(f"{here}.o.hook_in", tap(f"{here}.hook_z", z))
    weight = params[f"{there}.o_proj.weight"].unflatten(-1, (heads, -1))
    result = tap(f"{here}.hook_result", torch.einsum("bqhd,ohd->bqho", z, weight))
    return tap(f"{here}.hook_out", tap(f"{here}.o.hook_out", result.sum(dim=-2)))


def _heads(params: Mapping[str, Tensor], path: str, x: Tensor, count: int, layer: int, name: str, tap: Tap) -> Tensor:
    """Queries, keys or values, `batch pos head d_head`, with their biases."""
    here = f"blocks.{layer}.attn.{name}"
    x = tap(f"{here}.hook_in", tap(f"blocks.{layer}.hook_{name}_input", x))
    projected = (x @ params[f"{path}.weight"].mT + params[f"{path}.bias"]).unflatten(-1, (count, -1))
    return tap(f"blocks.{layer}.attn.hook_{name}", tap(f"{here}.hook_out", projected))


def _rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Every pair of channels (i, i + d/2) turned by its angle."""
    cos, sin = (table[:, :, None] for table in tables)
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def _norm(weight: Tensor, config: Mapping[str, Any], x: Tensor, name: str, tap: Tap) -> Tensor:
    """Root mean square norm."""
    x = tap(f"{name}.hook_in", x)
    scale = tap(f"{name}.hook_scale", (x.square().mean(dim=-1, keepdim=True) + config["rms_norm_eps"]).sqrt())
    return tap(f"{name}.hook_out", tap(f"{name}.hook_normalized", x / scale) * weight)


def _linear(params: Mapping[str, Tensor], path: str, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Product with the checkpoint's weight; outside of attention no projection has a bias."""
    return tap(f"{name}.hook_out", tap(f"{name}.hook_in", x) @ params[f"{path}.weight"].mT)
