"""LLaDA as plain equations, with a tap at every point that a complete bridge has a name for.

Source: Nie et al., "Large Language Diffusion Models" (arXiv 2502.09992), a transformer as in LLaMA (arXiv 2302.13971)
without the causal mask: root mean square norms (arXiv 1910.07467), rotary positions (arXiv 2104.09864), a gated MLP
(arXiv 2002.05202, "SwiGLU"), heads that share keys and values where there are fewer of these (arXiv 2305.13245).
Nothing here is shared with the miniature: attention is an explicit softmax over einsums, the rotary angles are made in
the dtype of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

Tap = Callable[[str, Tensor], Tensor]
HIDDEN = torch.finfo(torch.float32).min
"""What the released code adds to the score of a token that must not be seen; to a row that sees none, all are alike."""


def forward(params: Mapping[str, Tensor], config: Mapping[str, Any], inputs: Mapping[str, Any], tap: Tap) -> Tensor:
    """Raw logits `batch pos d_vocab`; row i speaks of token i.

    Args:
        params: checkpoint tensors by name; their dtype is the dtype of the computation.
        config: fields of config.json.
        inputs: `input_ids` (batch stream), optional `attention_mask` (batch stream, 0 where a token is padding) and
            `attention_bias` (batch|1 1 query key, bool or additive).
        tap: called as `tap(hook_name, tensor)` in data-flow order; what it returns is used instead.
    """
    ids, embedding = inputs["input_ids"], params["model.transformer.wte.weight"]
    x = tap("hook_embed", tap("embed.hook_out", embedding[tap("embed.hook_in", ids)]))
    mask = _additive_mask(config, inputs, embedding.dtype)
    for layer in range(config["n_layers"]):
        x = _block(params, config, layer, x, mask, tap)
    x = _norm(params["model.transformer.ln_f.weight"], config, x, "ln_final", tap)
    return tap("hook_unembed", _linear(params, "model.transformer.ff_out", x, "unembed", tap))


def _additive_mask(config: Mapping[str, Any], inputs: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """What is added to the scores, `batch|1 1 query key`, by keys and by pairs; the first code generation adds none.

    Only the miniature's config says that it is the first; a released one is taken for the second.
    """
    length = inputs["input_ids"].shape[1]
    total = torch.zeros(1, 1, length, length, dtype=dtype)
    if config.get("stand_in_revision") == "A":
        return total
    keys, pairs = inputs.get("attention_mask"), inputs.get("attention_bias")
    if pairs is not None:
        additive = pairs.is_floating_point()
        total = total + (pairs.to(dtype) if additive else torch.where(pairs.bool(), 0.0, HIDDEN).to(dtype))
    if keys is None or bool(keys.all()):
        return total
    return (total + torch.where(keys.bool(), 0.0, HIDDEN).to(dtype)[:, None, None]).clamp(min=HIDDEN)


def _block(
    params: Mapping[str, Tensor], config: Mapping[str, Any], layer: int, x: Tensor, mask: Tensor, tap: Tap
) -> Tensor:
    """One block on the residual stream `batch pos d_model`."""
    here, there = f"blocks.{layer}", f"model.transformer.blocks.{layer}"
    x = tap(f"{here}.hook_resid_pre", tap(f"{here}.hook_in", x))
    normed = _norm(params[f"{there}.attn_norm.weight"], config, x, f"{here}.ln1", tap)
    x = x + tap(f"{here}.hook_attn_out", _attention(params, config, layer, normed, mask, tap))

    x = tap(f"{here}.hook_resid_mid", x)
    normed = _norm(params[f"{there}.ff_norm.weight"], config, tap(f"{here}.hook_mlp_in", x), f"{here}.ln2", tap)
    normed = tap(f"{here}.mlp.hook_in", normed)
    gate = _linear(params, f"{there}.ff_proj", normed, f"{here}.mlp.gate", tap)
    up = tap(f"{here}.mlp.hook_pre_linear", _linear(params, f"{there}.up_proj", normed, f"{here}.mlp.in", tap))
    gate = tap(f"{here}.mlp.act.hook_in", tap(f"{here}.mlp.hook_pre", gate))
    hidden = tap(f"{here}.mlp.hook_post", tap(f"{here}.mlp.act.hook_out", silu(gate)) * up)
    branch = tap(f"{here}.mlp.hook_out", _linear(params, f"{there}.ff_out", hidden, f"{here}.mlp.out", tap))
    x = x + tap(f"{here}.hook_mlp_out", branch)
    return tap(f"{here}.hook_out", tap(f"{here}.hook_resid_post", x))


def _attention(
    params: Mapping[str, Tensor], config: Mapping[str, Any], layer: int, x: Tensor, mask: Tensor, tap: Tap
) -> Tensor:
    """Softmax attention; per-head tensors are `batch pos head d_head`, scores `batch head query key`.

    Heads stand in groups of equal size, one group to a head of keys and values.
    """
    here, there = f"blocks.{layer}.attn", f"model.transformer.blocks.{layer}"
    heads, groups = config["n_heads"], config.get("n_kv_heads") or config["n_heads"]
    x = tap(f"{here}.hook_in", tap(f"blocks.{layer}.hook_attn_in", x))
    q, k, v = (
        _heads(params[f"{there}.{name}_proj.weight"], x, count, layer, name, tap)
        for name, count in (("q", heads), ("k", groups), ("v", groups))
    )
    q = tap(f"{here}.hook_rot_q", _rotate(q, config["rope_theta"]))
    k = tap(f"{here}.hook_rot_k", _rotate(k, config["rope_theta"]))
    grouped = q.unflatten(2, (groups, -1))
    scores = torch.einsum("bqgsd,bkgd->bgsqk", grouped, k).flatten(1, 2) / math.sqrt(q.shape[-1])
    scores = tap(f"{here}.hook_attn_scores", scores + tap(f"{here}.hook_mask", mask))
    pattern = tap(f"{here}.hook_pattern", scores.softmax(dim=-1))
    z = torch.einsum("bgsqk,bkgd->bqgsd", pattern.unflatten(1, (groups, -1)), v).flatten(2, 3)
    z = tap(f"{here}.o.hook_in", tap(f"{here}.hook_z", z))
    weight = params[f"{there}.attn_out.weight"].unflatten(-1, (heads, -1))
    result = tap(f"{here}.hook_result", torch.einsum("bqhd,ohd->bqho", z, weight))
    return tap(f"{here}.hook_out", tap(f"{here}.o.hook_out", result.sum(dim=-2)))


def _heads(weight: Tensor, x: Tensor, count: int, layer: int, name: str, tap: Tap) -> Tensor:
    """Queries, keys or values, `batch pos head d_head`."""
    here = f"blocks.{layer}.attn.{name}"
    x = tap(f"{here}.hook_in", tap(f"blocks.{layer}.hook_{name}_input", x))
    projected = (x @ weight.mT).unflatten(-1, (count, -1))
    return tap(f"blocks.{layer}.attn.hook_{name}", tap(f"{here}.hook_out", projected))


def _rotate(x: Tensor, base: float) -> Tensor:
    """Rotary embedding of all channels by position, from 0 on, channel i paired with i + d/2."""
    half = x.shape[-1] // 2
    omega = float(base) ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = (torch.arange(x.shape[1], dtype=x.dtype)[:, None] * omega)[None, :, None]
    left, right = x[..., :half], x[..., half:]
    return torch.cat((left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()), dim=-1)


def _norm(weight: Tensor, config: Mapping[str, Any], x: Tensor, name: str, tap: Tap) -> Tensor:
    """Root mean square norm."""
    x = tap(f"{name}.hook_in", x)
    scale = tap(f"{name}.hook_scale", (x.square().mean(dim=-1, keepdim=True) + config["rms_norm_eps"]).sqrt())
    return tap(f"{name}.hook_out", tap(f"{name}.hook_normalized", x / scale) * weight)


def _linear(params: Mapping[str, Tensor], path: str, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Product with the checkpoint's weight; no projection of a released model has a bias."""
    return tap(f"{name}.hook_out", tap(f"{name}.hook_in", x) @ params[f"{path}.weight"].mT)
