"""Haze as plain equations, with a tap at every point that a bridge has a name for; no line of the model's code.

Shapes: b batch, s stream, D width, h heads. Everything is in the dtype of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Tap = Callable[[str, Tensor], Tensor]
Params = Mapping[str, Tensor]


def forward(params: Params, config: Mapping[str, Any], inputs: Mapping[str, Any], tap: Tap) -> Tensor:
    """Logits `batch pos d_vocab`; row i speaks of token i."""
    ids, table = inputs["input_ids"], params["tokens.weight"]
    x = tap("hook_embed", tap("embed.hook_out", table[tap("embed.hook_in", ids)]))
    places = tap("pos_embed.hook_in", torch.arange(ids.shape[1]).expand_as(ids))
    x = x + tap("hook_pos_embed", tap("pos_embed.hook_out", params["places.weight"][places]))
    x = x + _level(params, inputs["sigma"].to(table.dtype), tap)[:, None]
    hidden = torch.zeros(1, 1, 1, 1, dtype=table.dtype)
    if inputs.get("attention_mask") is not None:
        hidden = (inputs["attention_mask"] != 0).to(table.dtype).log()[:, None, None]
    for layer in range(config["n_layers"]):
        x = _layer(params, config["n_heads"], layer, x, hidden, tap)
    x = _norm(params, "norm", x, "ln_final", tap)
    return tap("hook_unembed", _linear(params, "head", x, "unembed", tap))


def _level(params: Params, sigma: Tensor, tap: Tap) -> Tensor:
    """What every token is told of the noise, `batch d_model`."""
    x = tap("level.hook_in", sigma[:, None])
    x = tap("level.hook_pre", _linear(params, "level.0", x, "level.in", tap))
    x = tap("level.hook_post", x * x.sigmoid())
    return tap("level.hook_out", _linear(params, "level.2", x, "level.out", tap))


def _layer(params: Params, heads: int, layer: int, x: Tensor, hidden: Tensor, tap: Tap) -> Tensor:
    """One layer on the residual stream `batch pos d_model`."""
    here, there = f"blocks.{layer}", f"layers.{layer}"
    x = tap(f"{here}.hook_resid_pre", tap(f"{here}.hook_in", x))
    normed = _norm(params, f"{there}.norm_1", x, f"{here}.ln1", tap)
    x = x + tap(f"{here}.hook_attn_out", _attention(params, heads, layer, normed, hidden, tap))
    x = tap(f"{here}.hook_resid_mid", x)
    normed = _norm(params, f"{there}.norm_2", tap(f"{here}.hook_mlp_in", x), f"{here}.ln2", tap)
    inner = _linear(params, f"{there}.mlp.up", tap(f"{here}.mlp.hook_in", normed), f"{here}.mlp.in", tap)
    inner = tap(f"{here}.mlp.hook_pre", inner)
    inner = tap(f"{here}.mlp.hook_post", inner * (1 + torch.erf(inner / math.sqrt(2))) / 2)
    branch = tap(f"{here}.mlp.hook_out", _linear(params, f"{there}.mlp.down", inner, f"{here}.mlp.out", tap))
    x = x + tap(f"{here}.hook_mlp_out", branch)
    return tap(f"{here}.hook_out", tap(f"{here}.hook_resid_post", x))


def _attention(params: Params, heads: int, layer: int, x: Tensor, hidden: Tensor, tap: Tap) -> Tensor:
    """Softmax attention; per-head tensors are `batch pos head d_head`, scores `batch head query key`."""
    here, there = f"blocks.{layer}.attn", f"layers.{layer}.attention"
    x = tap(f"{here}.hook_in", x)
    q, k, v = (_heads(params, f"{there}.{part}_proj", x, heads, layer, part, tap) for part in "qkv")
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1]) + tap(f"{here}.hook_mask", hidden)
    pattern = tap(f"{here}.hook_pattern", tap(f"{here}.hook_attn_scores", scores).softmax(dim=-1))
    z = torch.einsum("bhqk,bkhd->bqhd", pattern, v)
    z = tap(f"{here}.o.hook_in", tap(f"{here}.hook_z", z)).flatten(2)
    return tap(f"{here}.hook_out", tap(f"{here}.o.hook_out", z @ params[f"{there}.o_proj.weight"].mT))


def _heads(params: Params, path: str, x: Tensor, heads: int, layer: int, part: str, tap: Tap) -> Tensor:
    """Queries, keys or values."""
    here = f"blocks.{layer}.attn"
    x = tap(f"{here}.{part}.hook_in", x) @ params[f"{path}.weight"].mT
    return tap(f"{here}.hook_{part}", tap(f"{here}.{part}.hook_out", x.unflatten(-1, (heads, -1))))


def _norm(params: Params, path: str, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Layer norm (arXiv 1607.06450)."""
    x = tap(f"{name}.hook_in", x)
    centred = x - x.mean(dim=-1, keepdim=True)
    scale = tap(f"{name}.hook_scale", (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt())
    normed = tap(f"{name}.hook_normalized", centred / scale)
    return tap(f"{name}.hook_out", normed * params[f"{path}.weight"] + params[f"{path}.bias"])


def _linear(params: Params, path: str, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Product with a weight, and its bias where it has one."""
    out = tap(f"{name}.hook_in", x) @ params[f"{path}.weight"].mT
    bias = params.get(f"{path}.bias")
    return tap(f"{name}.hook_out", out if bias is None else out + bias)
