"""LLaDA, the masked diffusion language model (arXiv 2502.09992), as TransformerLens ships its adapter."""

from __future__ import annotations

from dataclasses import replace

from ..oracles.relations import blocks_of, everyone, left_padded, right_padded
from ..samplers import later
from ..spec import NOT_CAUSAL, AdapterSpec, Attend, Layout, Rotary, Sampler, Size, Span, Variant

PLAIN = Layout("plain", stream=(Span("n", masked=0.5),), relation=everyone, ragged=True)
KEYS, PAIRS = {"attention_mask": Attend("2-D int")}, {"attention_bias": Attend("4-D additive")}
PADDED = replace(PLAIN, name="padded", relation=right_padded, arguments=KEYS)
LEFT = replace(PADDED, name="padded-left", relation=left_padded)
# What has been written does not see what comes after it: of a size that is the caller's, as no config holds one.
BLOCKS = replace(PLAIN, name="blocks", relation=blocks_of(5), arguments=PAIRS)

LAYER = "model.transformer.blocks.{layer}"

SPEC = AdapterSpec(
    name="llada",
    module=__name__,
    architecture="LLaDAModelLM",
    auto_class="AutoModelForCausalLM",
    fixture="llada",
    # The released config says "meta": a model that is constructed from it has no weights.
    overrides={"init_device": "cpu"},
    # A field that the released forward reads and the released config class drops.
    shim=lambda modeling: setattr(modeling.LLaDAConfig, "use_cache", False),
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
        "blocks.{layer}": LAYER,
        "blocks.{layer}.ln1": f"{LAYER}.attn_norm",
        "blocks.{layer}.attn.q": f"{LAYER}.q_proj",
        "blocks.{layer}.attn.k": f"{LAYER}.k_proj",
        "blocks.{layer}.attn.v": f"{LAYER}.v_proj",
        "blocks.{layer}.attn.o": f"{LAYER}.attn_out",
        "blocks.{layer}.ln2": f"{LAYER}.ff_norm",
        "blocks.{layer}.mlp.gate": f"{LAYER}.ff_proj",
        "blocks.{layer}.mlp.in": f"{LAYER}.up_proj",
        "blocks.{layer}.mlp.act": f"{LAYER}.act",
        "blocks.{layer}.mlp.out": f"{LAYER}.ff_out",
        "ln_final": "model.transformer.ln_f",
        "unembed": "model.transformer.ff_out",
    },
    variants={
        "grouped heads": Variant({"n_kv_heads": 2}),
        "one head of keys": Variant({"n_kv_heads": 1}),
        "other heads": Variant({"n_heads": 2, "n_kv_heads": 2}),
        "other base": Variant({"rope_theta": 100.0}),
        # Its users hand over the same masks, and every token attends to every other all the same.
        "first code generation": Variant({"stand_in_revision": "A"}),
    },
    rotary=Rotary(base=500_000.0),
    oracle="conformance.oracles.llada:forward",
    truths={"eps": 1e-5, "normalization_type": "RMS", "act_fn": "silu", "attention_dir": "bidirectional"},
    capabilities=NOT_CAUSAL,
    sampler=Sampler(
        later("llada:denoise"),
        layout="plain",
        arguments=later("llada:inputs_of"),
        options={"block_length": 4, "temperature": 1.0},
        further=({"steps": 6, "remasking": "random"}, {"steps": 3, "temperature": 0.0, "cfg_scale": 0.5}),
        block=4,
        from_prompt=True,
    ),
    parameterisation="softmax",
    bench={"d_model": 256, "n_layers": 4, "mlp_hidden_size": 1024, "max_sequence_length": 256},
    axes=("n", "d_model", "d_mlp", "d_vocab", "d_model//heads", "heads", "groups"),
)
