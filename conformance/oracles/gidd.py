"""GIDD as plain equations, with a tap at every point that a complete bridge has a name for.

Source: von Rütte et al., "Generalized Interpolating Discrete Diffusion" (arXiv 2503.04482) and its follow-up on
scaling; rotary positions as in arXiv 2104.09864, query and key norms as in arXiv 2302.05442, the capped scores as in
arXiv 2408.00118. Nothing here is shared with the miniature: attention is an explicit softmax over einsums, positions
are angles in the dtype of the parameters, a hidden key has a score of -inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, relu

Tap = Callable[[str, Tensor], Tensor]


def forward(params: Mapping[str, Tensor], config: Mapping[str, Any], inputs: Mapping[str, Any], tap: Tap) -> Tensor:
    """Raw logits `batch pos d_vocab`, each for the token at its own place.

    Args:
        params: checkpoint tensors by name; their dtype is the dtype of the computation.
        config: fields of config.json.
        inputs: `input_ids` (batch stream), optional `attention_mask`, (batch key) or (batch query key).
        tap: called as `tap(hook_name, tensor)` in data-flow order; what it returns is used instead.
    """
    ids = tap("embed.hook_in", inputs["input_ids"])
    x = tap("hook_embed", tap("embed.hook_out", params["model.embed_tokens.weight"][ids]))
    mask = _additive_mask(inputs.get("attention_mask"), ids.shape[1], x.dtype)
    for layer in range(config["num_hidden_layers"]):
        x = _block(params, config, layer, x, mask, tap)
    x = _norm(params, config, "model.norm", x, "ln_final", tap)
    return tap("hook_unembed", _linear(params, config["head_scaling"], "lm_head", x, "unembed", tap))


def _additive_mask(given: Tensor | None, length: int, dtype: torch.dtype) -> Tensor:
    """0 where attention is allowed and -inf elsewhere, `batch|1 query key`; of anything but bools only ones allow."""
    allowed = torch.ones(1, 1, length, dtype=torch.bool) if given is None else given == 1
    allowed = allowed if allowed.ndim == 3 else allowed[:, None]
    return torch.zeros(len(allowed), length, length, dtype=dtype).masked_fill(~allowed, -torch.inf)


def _block(
    params: Mapping[str, Tensor], config: Mapping[str, Any], layer: int, x: Tensor, mask: Tensor, tap: Tap
) -> Tensor:
    """One pre-norm block on the residual stream `batch pos d_model`; what is added to it is scaled by 1/depth."""
    here, there = f"blocks.{layer}", f"model.layers.{layer}"
    share, scale = config["resid_scale"] / config["num_hidden_layers"], config["weight_scaling"]
    x = tap(f"{here}.hook_resid_pre", tap(f"{here}.hook_in", x))
    normed = _norm(params, config, f"{there}.attn_layernorm", x, f"{here}.ln1", tap)
    branch = _attention(params, config, layer, normed, mask, tap)
    x = tap(f"{here}.hook_resid_mid", x + tap(f"{here}.hook_attn_out", share * branch))

    normed = tap(f"{here}.mlp.hook_in", _norm(params, config, f"{there}.mlp_layernorm", x, f"{here}.ln2", tap))
    hidden = tap(f"{here}.mlp.hook_pre", _linear(params, scale, f"{there}.mlp.up_proj", normed, f"{here}.mlp.in", tap))
    hidden = tap(f"{here}.mlp.hook_post", relu(hidden) ** 2)
    branch = tap(
        f"{here}.mlp.hook_out", _linear(params, scale, f"{there}.mlp.down_proj", hidden, f"{here}.mlp.out", tap)
    )
    x = x + tap(f"{here}.hook_mlp_out", share * branch)
    return tap(f"{here}.hook_out", tap(f"{here}.hook_resid_post", x))


def _attention(
    params: Mapping[str, Tensor], config: Mapping[str, Any], layer: int, x: Tensor, mask: Tensor, tap: Tap
) -> Tensor:
    """Softmax attention with capped scores; per-head tensors are `batch pos head d_head`.

    Scores and pattern are `batch head query key`; with `attention_bias` key 0 is a learned slot that everyone sees,
    and the stream's own keys follow.
    """
    here, there, heads = f"blocks.{layer}.attn", f"model.layers.{layer}.self_attn", config["num_attention_heads"]
    x = tap(f"{here}.hook_in", x)
    q, k, v = (
        tap(f"{here}.hook_{name}", _projected(params, config, f"{there}.{name}_proj", x, f"{here}.{name}", tap))
        for name in "qkv"
    )
    if config["use_qk_norm"]:
        # The mean square is over all heads together.
        q = _norm(params, config, f"{there}.q_norm", q.flatten(2), f"{here}.q_norm", tap).unflatten(2, (heads, -1))
        k = _norm(params, config, f"{there}.k_norm", k.flatten(2), f"{here}.k_norm", tap).unflatten(2, (heads, -1))
    q = tap(f"{here}.hook_rot_q", _rotate(tap(f"{here}.hook_unrot_q", q), config["rope_theta"]))
    k = tap(f"{here}.hook_rot_k", _rotate(tap(f"{here}.hook_unrot_k", k), config["rope_theta"]))
    mask = tap(f"{here}.hook_mask", mask[:, None].expand(len(x), -1, -1, -1))
    if config["attention_bias"]:
        k, v = (
            torch.cat((params[f"{there}.{name}_bias"].expand(len(x), 1, -1, -1), tensor), dim=1)
            for name, tensor in (("k", k), ("v", v))
        )
        mask = pad(mask, (1, 0))

    cap = config["attn_soft_cap"]
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    scores = tap(f"{here}.hook_attn_scores", cap * (scores / cap).tanh() + mask)
    pattern = tap(f"{here}.hook_pattern", scores.softmax(dim=-1))
    z = tap(f"{here}.hook_z", torch.einsum("bhqk,bkhd->bqhd", pattern, v))
    z = tap(f"{here}.o.hook_in", z)
    weight = params[f"{there}.o_proj.weight"]
    by_head = torch.einsum("bqhd,ohd->bqho", z, weight.unflatten(-1, (heads, -1)))
    result = tap(f"{here}.hook_result", _factor(config["weight_scaling"], weight) * by_head)
    return tap(f"{here}.hook_out", tap(f"{here}.o.hook_out", result.sum(dim=-2)))


def _projected(
    params: Mapping[str, Tensor], config: Mapping[str, Any], path: str, x: Tensor, name: str, tap: Tap
) -> Tensor:
    """A projection split into heads, where its hook shows it."""

    def split(at: str, tensor: Tensor) -> Tensor:
        return tap(at, tensor.unflatten(-1, (config["num_attention_heads"], -1)) if at.endswith("hook_out") else tensor)

    return _linear(params, config["weight_scaling"], path, x, name, split)


def _rotate(x: Tensor, theta: float) -> Tensor:
    """Rotary embedding of all channels at positions 0, 1, ..., channel i paired with i + d/2."""
    half = x.shape[-1] // 2
    omega = theta ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = (torch.arange(x.shape[1], dtype=x.dtype)[:, None] * omega)[None, :, None]
    left, right = x[..., :half], x[..., half:]
    return torch.cat((left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()), dim=-1)


def _norm(params: Mapping[str, Tensor], config: Mapping[str, Any], path: str, x: Tensor, name: str, tap: Tap) -> Tensor:
    """RMS norm; the weight is kept as its distance from 1."""
    x = tap(f"{name}.hook_in", x)
    scale = tap(f"{name}.hook_scale", (x.square().mean(dim=-1, keepdim=True) + config["rms_norm_eps"]).sqrt())
    return tap(f"{name}.hook_out", tap(f"{name}.hook_normalized", x / scale) * (1 + params[f"{path}.weight"]))


def _linear(params: Mapping[str, Tensor], scale: float | str, path: str, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Affine map whose product is scaled, and its bias not."""
    weight = params[f"{path}.weight"]
    out = _factor(scale, weight) * (tap(f"{name}.hook_in", x) @ weight.mT)
    bias = params.get(f"{path}.bias")
    return tap(f"{name}.hook_out", out if bias is None else out + bias)


def _factor(scale: float | str, weight: Tensor) -> float:
    """A number as it is; "fan_in" and "fan_out" are one over the root of a map's inputs and outputs."""
    if isinstance(scale, str):
        outputs, inputs = weight.shape
        return float({"fan_in": inputs, "fan_out": outputs}[scale] ** -0.5)
    return float(scale)
