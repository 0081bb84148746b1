"""LLaDA2-MoE as plain equations, with a tap at every point that a complete bridge has a name for.

Source: LLaDA2.0 technical report (inclusionAI, 2025); experts and their choice as in DeepSeek-V3 (arXiv 2412.19437,
eq. 12 to 16, groups as in DeepSeek-V2, arXiv 2405.04434, sec. 2.2.2); partial rotation as in arXiv 2204.06745. Nothing
here is shared with the miniature: every expert sees every token, and who is not chosen has the weight 0, so that the
gradient reaches experts and router as it does in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

Tap = Callable[[str, Tensor], Tensor]
Params = Mapping[str, Tensor]
Config = Mapping[str, Any]


def forward(params: Params, config: Config, inputs: Mapping[str, Any], tap: Tap) -> Tensor:
    """Logits `batch pos d_vocab`; row i speaks of the token at i.

    Args:
        params: checkpoint tensors by name; their dtype is the dtype of the computation.
        config: fields of config.json.
        inputs: `input_ids` (batch pos), `attention_mask` (batch 1 query key): True or 0 where attention is allowed,
            False or -inf elsewhere; without it everyone sees everyone. Optional `position_ids` (1|batch pos).
        tap: called as `tap(hook_name, tensor)` in data-flow order; what it returns is used instead.
    """
    embedding = params["model.word_embeddings.weight"]
    x = tap("hook_embed", tap("embed.hook_out", embedding[tap("embed.hook_in", inputs["input_ids"])]))
    mask = _additive(inputs.get("attention_mask"), x)
    positions = inputs.get("position_ids", torch.arange(x.shape[1])[None])
    cos, sin = _tables(config, positions, x, tap)

    for layer in range(config["num_hidden_layers"]):
        x = _layer(params, config, layer, x, (cos, sin), mask, tap)
    x = _norm(params["model.norm.weight"], config, x, "ln_final", tap)
    return tap("hook_unembed", _linear(params, "lm_head", x, "unembed", tap))


def _additive(mask: Tensor | None, x: Tensor) -> Tensor:
    """What is added to the scores, `batch 1 query key`."""
    if mask is None:
        return x.new_zeros(len(x), 1, x.shape[1], x.shape[1])
    if mask.dtype is torch.bool:
        return x.new_zeros(mask.shape).masked_fill(~mask, -torch.inf)
    return mask.to(x.dtype)


def _tables(config: Config, positions: Tensor, x: Tensor, tap: Tap) -> tuple[Tensor, Tensor]:
    """Cosines and sines `1|batch pos rotated`, each angle twice: channel i is paired with i + rotated / 2."""
    rotated = int(config["head_dim"] * config["partial_rotary_factor"])
    omega = float(config["rope_theta"]) ** (-torch.arange(0, rotated, 2, dtype=x.dtype) / rotated)
    tap("rotary_emb.hook_in", x)
    angle = torch.einsum("bp,i->bpi", positions.to(x.dtype), omega).repeat(1, 1, 2)
    return tap("rotary_emb.hook_cos", angle.cos()), tap("rotary_emb.hook_sin", angle.sin())


def _layer(
    params: Params, config: Config, layer: int, x: Tensor, tables: tuple[Tensor, Tensor], mask: Tensor, tap: Tap
) -> Tensor:
    """One layer on the residual stream `batch pos d_model`."""
    here, there = f"blocks.{layer}", f"model.layers.{layer}"
    x = tap(f"{here}.hook_resid_pre", tap(f"{here}.hook_in", x))
    normed = _norm(params[f"{there}.input_layernorm.weight"], config, x, f"{here}.ln1", tap)
    branch = _attention(params, config, layer, normed, tables, mask, tap)
    x = tap(f"{here}.hook_resid_mid", x + tap(f"{here}.hook_attn_out", branch))
    normed = _norm(params[f"{there}.post_attention_layernorm.weight"], config, x, f"{here}.ln2", tap)
    normed = tap(f"{here}.mlp.hook_in", normed)
    if layer < config["first_k_dense_replace"]:
        branch = _gated(params, f"{there}.mlp", normed, f"{here}.mlp", "dense_", tap)
    else:
        branch = _mixture(params, config, layer, normed, tap)
    x = x + tap(f"{here}.hook_mlp_out", tap(f"{here}.mlp.hook_out", branch))
    return tap(f"{here}.hook_out", tap(f"{here}.hook_resid_post", x))


def _attention(
    params: Params, config: Config, layer: int, x: Tensor, tables: tuple[Tensor, Tensor], mask: Tensor, tap: Tap
) -> Tensor:
    """Softmax attention, several query heads to a key head; per-head tensors are `batch pos head d_head`.

    Norms of queries and keys see heads before positions, `batch head pos d_head`, as the model's modules do.
    """
    here, there = f"blocks.{layer}.attn", f"model.layers.{layer}.attention"
    heads, shared, width = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    qkv = _linear(params, f"{there}.query_key_value", tap(f"{here}.hook_in", x), f"{here}.qkv", tap)
    qkv = tap(f"{here}.hook_qkv", qkv).unflatten(-1, (-1, width))
    parts = zip("qkv", qkv.tensor_split((heads, heads + shared), dim=2), strict=True)
    q, k, v = (tap(f"{here}.hook_{name}", part) for name, part in parts)
    if config.get("use_qk_norm", True):
        q, k = (
            _norm(params[f"{there}.{whose}_layernorm.weight"], config, part.transpose(1, 2), name, tap).transpose(1, 2)
            for whose, part, name in (("query", q, f"{here}.q_norm"), ("key", k, f"{here}.k_norm"))
        )
    q, k = tap(f"{here}.hook_normed_q", q), tap(f"{here}.hook_normed_k", k)
    q, k = tap(f"{here}.hook_rot_q", _rotate(q, *tables)), tap(f"{here}.hook_rot_k", _rotate(k, *tables))
    grouped = q.unflatten(2, (shared, heads // shared))
    scores = torch.einsum("bqsgd,bksd->bsgqk", grouped, k).flatten(1, 2) / math.sqrt(width)
    scores = tap(f"{here}.hook_attn_scores", scores + tap(f"{here}.hook_mask", mask))
    pattern = tap(f"{here}.hook_pattern", scores.softmax(dim=-1))
    z = torch.einsum("bsgqk,bksd->bqsgd", pattern.unflatten(1, (shared, heads // shared)), v).flatten(2, 3)
    z = tap(f"{here}.o.hook_in", tap(f"{here}.hook_z", z))
    weight, bias = params[f"{there}.dense.weight"], params.get(f"{there}.dense.bias")
    result = tap(f"{here}.hook_result", torch.einsum("bqhd,ohd->bqho", z, weight.unflatten(-1, (heads, width))))
    out = result.sum(dim=2) if bias is None else result.sum(dim=2) + bias
    return tap(f"{here}.hook_out", tap(f"{here}.o.hook_out", out))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first channels of every head, as many as the tables have, turned; the others as they were."""
    (a, b), rest = x[..., : cos.shape[-1]].chunk(2, dim=-1), x[..., cos.shape[-1] :]
    (cos_a, cos_b), (sin_a, sin_b) = (table[:, :, None].chunk(2, dim=-1) for table in (cos, sin))
    return torch.cat((a * cos_a - b * sin_a, b * cos_b + a * sin_b, rest), dim=-1)


def _gated(params: Params, path: str, x: Tensor, name: str, prefix: str, tap: Tap) -> Tensor:
    """W_down (silu(W_gate x) * W_up x); `prefix` is that of the names of its three parts."""
    pre = tap(f"{name}.hook_pre", _linear(params, f"{path}.gate_proj", x, f"{name}.{prefix}gate", tap))
    linear = tap(f"{name}.hook_pre_linear", _linear(params, f"{path}.up_proj", x, f"{name}.{prefix}in", tap))
    post = tap(f"{name}.hook_post", silu(pre) * linear)
    return _linear(params, f"{path}.down_proj", post, f"{name}.{prefix}out", tap)


def _mixture(params: Params, config: Config, layer: int, x: Tensor, tap: Tap) -> Tensor:
    """All experts of every token by their weights, which are 0 for most, and the shared ones.

    What is inside of experts is `batch pos expert d_expert`.
    """
    here, there = f"blocks.{layer}.mlp", f"model.layers.{layer}.mlp"
    weights = _route(params, config, x, here, f"{there}.gate", tap)
    gate, up, down = (
        torch.stack([params[f"{there}.experts.{number}.{part}_proj.weight"] for number in range(config["num_experts"])])
        for part in ("gate", "up", "down")
    )
    pre = tap(f"{here}.hook_pre", torch.einsum("bpd,efd->bpef", x, gate))
    linear = tap(f"{here}.hook_pre_linear", torch.einsum("bpd,efd->bpef", x, up))
    post = tap(f"{here}.hook_post", silu(pre) * linear)
    out = torch.einsum("bpe,bpef,edf->bpd", weights, post, down)
    if config["num_shared_experts"]:
        shared = tap(f"{here}.shared_experts.hook_in", x)
        shared = _gated(params, f"{there}.shared_experts", shared, f"{here}.shared_experts", "", tap)
        out = out + tap(f"{here}.shared_experts.hook_out", shared)
    return out


def _route(params: Params, config: Config, x: Tensor, here: str, there: str, tap: Tap) -> Tensor:
    """What each expert weighs, `batch pos expert`: its share of the scores of those that are chosen, times a constant.

    The bias chooses and does not weigh.
    """
    logits = _linear(params, there, x, f"{here}.gate", tap)
    scores = tap(f"{here}.hook_router_scores", logits).sigmoid()
    chosen = choose(scores + params[f"{there}.expert_bias"], config)
    weights = scores * chosen / ((scores * chosen).sum(dim=-1, keepdim=True) + 1e-20)
    return tap(f"{here}.hook_expert_weights", config["routed_scaling_factor"] * weights)


def choose(selection: Tensor, config: Config) -> Tensor:
    """Which experts a token goes to, 0 or 1, `... expert`: the best of the groups whose best two add up to most."""
    grouped = selection.unflatten(-1, (config["n_group"], -1))
    worth = grouped.sort(dim=-1).values[..., -2:].sum(dim=-1)
    least = worth.sort(dim=-1).values[..., -config["topk_group"], None]
    allowed = torch.where((worth >= least)[..., None], grouped, -torch.inf).flatten(-2)
    least = allowed.sort(dim=-1).values[..., -config["num_experts_per_tok"], None]
    return (allowed >= least).to(selection.dtype)


def _norm(weight: Tensor, config: Config, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Root mean square norm."""
    x = tap(f"{name}.hook_in", x)
    scale = tap(f"{name}.hook_scale", (x.square().mean(dim=-1, keepdim=True) + config["rms_norm_eps"]).sqrt())
    return tap(f"{name}.hook_out", tap(f"{name}.hook_normalized", x / scale) * weight)


def _linear(params: Params, path: str, x: Tensor, name: str, tap: Tap) -> Tensor:
    """Affine map by the checkpoint's weight, and bias where it has one."""
    out = tap(f"{name}.hook_in", x) @ params[f"{path}.weight"].mT
    bias = params.get(f"{path}.bias")
    return tap(f"{name}.hook_out", out if bias is None else out + bias)
