"""LLaDA, the masked diffusion language model (arXiv 2502.09992), as TransformerLens ships its adapter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..oracles.relations import blocks_of, everyone, left_padded, right_padded
from ..spec import AdapterSpec, Attend, Branch, Impossible, Layout, Rotary, Size, Span, Variant

PLAIN = Layout(name="plain", stream=(Span("n", masked=0.5),), relation=everyone, ragged=True)
KEYS, PAIRS = {"attention_mask": Attend("2-D int")}, {"attention_bias": Attend("4-D additive")}
PADDED = replace(PLAIN, name="padded", relation=right_padded, arguments=KEYS)
LEFT = replace(PADDED, name="padded-left", relation=left_padded)
# Semi-autoregressive use: what has not been written yet is hidden from what has.
BLOCKS = replace(PLAIN, name="blocks", relation=blocks_of(5), arguments=PAIRS)


def keep_use_cache(modeling: Any) -> None:
    """Give the config the field that the released forward reads and the released config class drops."""
    modeling.LLaDAConfig.use_cache = False


SPEC = AdapterSpec(
    name="llada",
    module=__name__,
    architecture="LLaDAModelLM",
    auto_class="AutoModelForCausalLM",
    fixture="llada",
    # The released config says "meta": a model that is constructed from it has no weights.
    overrides={"init_device": "cpu"},
    shim=keep_use_cache,
    sizes={
        "n": "max_sequence_length",
        "layers": "n_layers",
        "heads": "n_heads",
        "groups": "n_kv_heads",
        "d_model": "d_model",
        "d_mlp": "mlp_hidden_size",
        "d_vocab": "vocab_size",
        "mask": "mask_token_id",
    },
    mask_token=Size("mask"),
    layouts=(PLAIN, PADDED, LEFT, BLOCKS),
    points={
        "embed": "model.transformer.wte",
        "blocks.{layer}": "model.transformer.blocks.{layer}",
        "blocks.{layer}.ln1": "model.transformer.blocks.{layer}.attn_norm",
        "blocks.{layer}.attn.q": "model.transformer.blocks.{layer}.q_proj",
        "blocks.{layer}.attn.k": "model.transformer.blocks.{layer}.k_proj",
        "blocks.{layer}.attn.v": "model.transformer.blocks.{layer}.v_proj",
        "blocks.{layer}.attn.o": "model.transformer.blocks.{layer}.attn_out",
        "blocks.{layer}.ln2": "model.transformer.blocks.{layer}.ff_norm",
        "blocks.{layer}.mlp.gate": "model.transformer.blocks.{layer}.ff_proj",
        "blocks.{layer}.mlp.in": "model.transformer.blocks.{layer}.up_proj",
        "blocks.{layer}.mlp.act": "model.transformer.blocks.{layer}.act",
        "blocks.{layer}.mlp.out": "model.transformer.blocks.{layer}.ff_out",
        "ln_final": "model.transformer.ln_f",
        "unembed": "model.transformer.ff_out",
    },
    branches=(
        Branch(
            before="blocks.{layer}.hook_resid_pre",
            raw="blocks.{layer}.attn.o.hook_out",
            after="blocks.{layer}.hook_resid_mid",
        ),
        Branch(
            before="blocks.{layer}.hook_resid_mid",
            raw="blocks.{layer}.mlp.out.hook_out",
            after="blocks.{layer}.hook_resid_post",
        ),
    ),
    variants={
        "grouped heads": Variant({"n_kv_heads": 2}),
        "one head of keys": Variant({"n_kv_heads": 1}),
        "other heads": Variant({"n_heads": 2, "n_kv_heads": 2}),
        "other base": Variant({"rope_theta": 100.0}),
        # Of this code a model gets the same masks, and attends to everything all the same.
        "first code generation": Variant({"stand_in_revision": "A"}),
    },
    rotary=Rotary(
        before=("blocks.{layer}.attn.hook_q", "blocks.{layer}.attn.hook_k"),
        after=("blocks.{layer}.attn.hook_rot_q", "blocks.{layer}.attn.hook_rot_k"),
        base=500_000.0,
    ),
    oracle="conformance.oracles.llada:forward",
    truths={
        "n_ctx": Size("n"),
        "n_layers": Size("layers"),
        "n_heads": Size("heads"),
        "d_model": Size("d_model"),
        "d_head": Size("d_model//heads"),
        "d_mlp": Size("d_mlp"),
        "d_vocab": Size("d_vocab"),
        "eps": 1e-5,
        "act_fn": "silu",
        "gated_mlp": True,
        "normalization_type": "RMS",
        "attention_dir": "bidirectional",
        "positional_embedding_type": "rotary",
        "rotary_base": 500_000,
        "rotary_dim": Size("d_model//heads"),
        "mask_token_id": Size("mask"),
    },
    capabilities={
        "loss": Impossible("a shifted causal loss is undefined for masked diffusion"),
        "generate": Impossible("text comes from the denoising loop, not from next tokens"),
        "denoise": Impossible("the bridge leaves sampling to a script of the model's authors"),
    },
    bench={
        "d_model": 256,
        "n_layers": 4,
        "n_heads": 4,
        "n_kv_heads": 4,
        "mlp_hidden_size": 768,
        "max_sequence_length": 128,
    },
    axes=("n", "d_model", "d_mlp", "d_vocab", "d_model//heads", "heads", "groups"),
)

REPAIRED = replace(SPEC, name="llada@repaired", adapter="conformance.loadable:LLaDA")
