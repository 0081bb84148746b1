"""BD3LM as plain equations, with a tap at every point that a complete bridge has a name for.

Source: Arriola et al., "Block Diffusion", ICLR 2025 (arXiv 2503.09573); adaLN as in Peebles & Xie
(arXiv 2212.09748). Nothing here is shared with the miniature: attention is an explicit softmax, the two
halves are projected together, the timestep table is built in the dtype of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from .relations import block_causal, block_diffusion_training

Tap = Callable[[str, Tensor], Tensor]
CHUNKS = ("shift_attn", "scale_attn", "gate_attn", "shift_mlp", "scale_mlp", "gate_mlp")


def forward(params: Mapping[str, Tensor], config: Mapping[str, Any], inputs: Mapping[str, Any], tap: Tap) -> Tensor:
    """Raw logits `batch pos d_vocab`: the noisy half in the 2n layout, the whole stream with `sample_mode`.

    Args:
        params: checkpoint tensors by name; their dtype is the dtype of the computation.
        config: fields of config.json.
        inputs: `input_ids` (batch stream), `timesteps` (batch), optional `sample_mode`.
        tap: called as `tap(hook_name, tensor)` in data-flow order; what it returns is used instead.
    """
    ids, sampling = inputs["input_ids"], bool(inputs.get("sample_mode", False))
    embedding = params["backbone.vocab_embed.embedding"]
    n, two_halves = config["model_length"], config["cross_attn"] and not sampling

    ids, index = tap("backbone.hook_in", ids), torch.arange(ids.shape[1])
    positions = index % n if two_halves else index
    x = tap("hook_embed", tap("embed.hook_out", embedding[tap("embed.hook_in", ids)]))
    conditioning = _conditioning(params, config, inputs, tap) if config["adaln"] else None
    mask = _additive_mask(index, config, sampling, embedding.dtype)

    for layer in range(config["n_blocks"]):
        x = _block(params, config, layer, x, conditioning, positions, mask, tap)

    x = _norm(params["backbone.output_layer.norm_final.weight"], x, "ln_final", tap)
    if conditioning is not None:
        chunks = _linear(params, "backbone.output_layer.adaLN_modulation", conditioning, "adaln_final", tap)
        shift, scale = chunks.chunk(2, dim=-1)
        shift, scale = tap("backbone.hook_shift_final", shift), tap("backbone.hook_scale_final", scale)
        x = x * (1 + scale[:, None]) + shift[:, None]
    logits = tap("hook_unembed", _linear(params, "backbone.output_layer.linear", x, "unembed", tap))
    logits = tap("backbone.hook_out", logits)
    return logits[:, :n] if two_halves else logits


def _conditioning(
    params: Mapping[str, Tensor], config: Mapping[str, Any], inputs: Mapping[str, Any], tap: Tap
) -> Tensor:
    """Noise level to conditioning vector `batch cond_dim`: sinusoid (cosines first), MLP, SiLU."""
    first = params["backbone.sigma_map.mlp.0.weight"]
    sigma = inputs["timesteps"].to(first.dtype)
    if not config["time_conditioning"]:
        sigma = sigma * 0
    half = first.shape[1] // 2
    omega = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=first.dtype))
    angle = tap("hook_timestep", tap("backbone.hook_timestep", sigma))[:, None] * omega
    table = tap("hook_sinusoid", tap("sigma_map.hook_in", torch.cat((angle.cos(), angle.sin()), dim=-1)))
    hidden = _linear(params, "backbone.sigma_map.mlp.0", table, "sigma_map.in", tap)
    hidden = tap("sigma_map.hook_post", silu(tap("sigma_map.hook_pre", hidden)))
    out = _linear(params, "backbone.sigma_map.mlp.2", hidden, "sigma_map.out", tap)
    conditioning = silu(tap("sigma_map.hook_out", out))
    return tap("hook_conditioning", tap("backbone.hook_conditioning", conditioning))


def _additive_mask(index: Tensor, config: Mapping[str, Any], sampling: bool, dtype: torch.dtype) -> Tensor:
    """0 where attention is allowed and -inf elsewhere, `query key`."""
    query, key = index[:, None], index[None, :]
    if not config["cross_attn"]:
        allowed = query >= key if config["causal"] else torch.ones_like(query >= key)
    else:
        relation = block_causal if sampling else block_diffusion_training
        allowed = relation(query, key, config["model_length"], config["block_size"])
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, -torch.inf)


def _block(
    params: Mapping[str, Tensor],
    config: Mapping[str, Any],
    layer: int,
    x: Tensor,
    conditioning: Tensor | None,
    positions: Tensor,
    mask: Tensor,
    tap: Tap,
) -> Tensor:
    """One DDiT block on the residual stream `batch pos d_model`."""
    here, there = f"blocks.{layer}", f"backbone.blocks.{layer}"
    x = tap(f"{here}.hook_resid_pre", tap(f"{here}.hook_in", x))
    if conditioning is None:
        zero, one = x.new_zeros(()), x.new_ones(())
        chunks = dict(zip(CHUNKS, (zero, zero, one, zero, zero, one), strict=True))
    else:
        six = _linear(params, f"{there}.adaLN_modulation", conditioning, f"{here}.adaln_modulation", tap)
        parts = zip(CHUNKS, six.chunk(6, dim=-1), strict=True)
        chunks = {chunk: tap(f"{here}.hook_{chunk}", part)[:, None] for chunk, part in parts}

    normed = _norm(params[f"{there}.norm1.weight"], x, f"{here}.ln1", tap)
    modulated = normed * (1 + chunks["scale_attn"]) + chunks["shift_attn"]
    branch = _attention(params, config["n_heads"], layer, modulated, positions, mask, tap)
    x = x + tap(f"{here}.hook_attn_out", chunks["gate_attn"] * branch)
    x = tap(f"{here}.hook_resid_mid", x)

    normed = _norm(params[f"{there}.norm2.weight"], x, f"{here}.ln2", tap)
    modulated = normed * (1 + chunks["scale_mlp"]) + chunks["shift_mlp"]
    hidden = _linear(params, f"{there}.mlp.0", tap(f"{here}.mlp.hook_in", modulated), f"{here}.mlp.in", tap)
    hidden = gelu(tap(f"{here}.mlp.hook_pre", hidden), approximate="tanh")
    hidden = tap(f"{here}.mlp.hook_post", hidden)
    branch = _linear(params, f"{there}.mlp.2", hidden, f"{here}.mlp.out", tap)
    x = x + tap(f"{here}.hook_mlp_out", chunks["gate_mlp"] * tap(f"{here}.mlp.hook_out", branch))
    return tap(f"{here}.hook_out", tap(f"{here}.hook_resid_post", x))


def _attention(
    params: Mapping[str, Tensor],
    heads: int,
    layer: int,
    x: Tensor,
    positions: Tensor,
    mask: Tensor,
    tap: Tap,
) -> Tensor:
    """Masked softmax attention; per-head tensors are `batch pos head d_head`, scores `batch head query key`."""
    here, there = f"blocks.{layer}.attn", f"backbone.blocks.{layer}"
    qkv = _linear(params, f"{there}.attn_qkv", tap(f"{here}.hook_in", x), f"{here}.qkv", tap)
    q, k, v = (
        tap(f"{here}.hook_{name}", part.unflatten(-1, (heads, -1)))
        for name, part in zip("qkv", qkv.chunk(3, dim=-1), strict=True)
    )
    q = tap(f"{here}.hook_rot_q", _rotate(q, positions))
    k = tap(f"{here}.hook_rot_k", _rotate(k, positions))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    mask = tap(f"{here}.hook_mask", mask.expand(len(q), 1, *mask.shape))
    scores = tap(f"{here}.hook_attn_scores", scores + mask)
    pattern = tap(f"{here}.hook_pattern", scores.softmax(dim=-1))
    z = tap(f"{here}.hook_z", torch.einsum("bhqk,bkhd->bqhd", pattern, v))
    z = tap(f"{here}.o.hook_in", z.flatten(2)).unflatten(-1, (heads, -1))
    weight = params[f"{there}.attn_out.weight"].unflatten(-1, (heads, -1))
    result = tap(f"{here}.hook_result", torch.einsum("bqhd,ohd->bqho", z, weight))
    return tap(f"{here}.hook_out", tap(f"{here}.o.hook_out", result.sum(dim=-2)))


def _rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary embedding of all channels, base 10⁴, channel i paired with i + d/2 (arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    omega = 10_000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = (positions.to(x.dtype)[:, None] * omega)[None, :, None]
    left, right = x[..., :half], x[..., half:]
    return torch.cat((left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()), dim=-1)


def _norm(weight: Tensor, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Layer norm without bias, ε = 1e-5, biased variance."""
    x = tap(f"{name}.hook_in", x)
    centred = x - x.mean(dim=-1, keepdim=True)
    scale = tap(f"{name}.hook_scale", (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt())
    return tap(f"{name}.hook_out", tap(f"{name}.hook_normalized", centred / scale) * weight)


def _linear(params: Mapping[str, Tensor], path: str, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Affine map by the checkpoint's weight, and bias where it has one."""
    out = tap(f"{name}.hook_in", x) @ params[f"{path}.weight"].mT
    bias = params.get(f"{path}.bias")
    return tap(f"{name}.hook_out", out if bias is None else out + bias)
