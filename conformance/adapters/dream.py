"""Dream, the masked diffusion language model made from Qwen2.5 (arXiv 2508.15487), as TransformerLens ships it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..oracles.relations import causal, everyone
from ..samplers import later
from ..spec import NOT_CAUSAL, AdapterSpec, Attend, Layout, Rotary, Sampler, Size, Span, Variant

PLAIN = Layout(name="plain", stream=(Span("n", masked=0.5),), relation=everyone, ragged=True)
# The model takes a relation from its caller and has none of its own; this one is that of its ancestor.
MASKED = replace(PLAIN, name="masked", relation=causal, arguments={"attention_mask": Attend("4-D bool")})
ADDITIVE = replace(MASKED, name="additive", arguments={"attention_mask": Attend("4-D additive")})

LAYER, ATTENTION, MLP = (f"model.layers.{{layer}}{part}" for part in ("", ".self_attn", ".mlp"))


def shim(modeling: Any) -> None:
    """What the released code needs to be constructed, and to sample."""
    from ..shims import dream

    dream(modeling)


SPEC = AdapterSpec(
    name="dream",
    module=__name__,
    architecture="DreamModel",
    auto_class="AutoModel",
    fixture="dream",
    shim=shim,
    sizes={"n": "max_position_embeddings", "layers": "num_hidden_layers", "mask": "mask_token_id"}
    | {"heads": "num_attention_heads", "kv_heads": "num_key_value_heads"}
    | {"d_model": "hidden_size", "d_mlp": "intermediate_size", "d_vocab": "vocab_size"},
    mask_token=Size("mask"),
    shift=1,
    layouts=(PLAIN, MASKED, ADDITIVE),
    points={
        "embed": "model.embed_tokens",
        "rotary_emb": "model.rotary_emb",
        "blocks.{layer}": LAYER,
        "blocks.{layer}.ln1": f"{LAYER}.input_layernorm",
        "blocks.{layer}.attn": ATTENTION,
        **{f"blocks.{{layer}}.attn.{name}": f"{ATTENTION}.{name}_proj" for name in "qkvo"},
        "blocks.{layer}.ln2": f"{LAYER}.post_attention_layernorm",
        "blocks.{layer}.mlp": MLP,
        "blocks.{layer}.mlp.gate": f"{MLP}.gate_proj",
        "blocks.{layer}.mlp.in": f"{MLP}.up_proj",
        "blocks.{layer}.mlp.out": f"{MLP}.down_proj",
        "ln_final": "model.norm",
        "unembed": "lm_head",
    },
    variants={
        "heads of their own": Variant({"num_key_value_heads": 4}),
        "one head of keys": Variant({"num_key_value_heads": 1}),
        "other heads": Variant({"num_attention_heads": 2, "num_key_value_heads": 1}),
        "other base": Variant({"rope_theta": 100.0}),
        "without a cache": Variant({"use_cache": False}),
    },
    rotary=Rotary(base=1_000_000.0, tables="rotary_emb"),
    oracle="conformance.oracles.dream:forward",
    truths={"eps": 1e-6, "act_fn": "silu", "gated_mlp": True, "normalization_type": "RMS"}
    | {"attention_dir": "bidirectional"},
    capabilities=NOT_CAUSAL,
    sampler=Sampler(
        later("dream:generate"),
        native="diffusion_generate",
        layout="plain",
        arguments=lambda step: {},
        options={"alg": "origin", "temperature": 1.0},
        further=(
            {"alg": "maskgit_plus", "temperature": 0.7, "top_p": 0.9},
            {"alg": "topk_margin", "alg_temp": 0.5, "steps": 4},
            {"alg": "entropy", "temperature": 1.0, "top_k": 9},
        ),
        resumable=False,
    ),
    bench={"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 1024, "max_position_embeddings": 256},
    axes=("n", "d_model", "d_mlp", "d_vocab", "d_model//heads", "heads", "kv_heads"),
)
