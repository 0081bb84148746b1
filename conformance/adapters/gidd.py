"""GIDD, generalized interpolating discrete diffusion (arXiv 2503.04482), as TransformerLens ships its adapter."""

from __future__ import annotations

from ..oracles.relations import clean_prefix, everyone, right_padded
from ..samplers import later
from ..spec import AdapterSpec, Attend, Branch, Impossible, Layout, Rotary, Sampler, Size, Span, Variant

PLAIN = Layout("plain", stream=(Span("n", masked=0.5),), relation=everyone, ragged=True)
# What a short text is in a batch with longer ones. On the left padding would move its positions, and the bridge and the
# model do not count them alike.
PADDED = Layout(
    "padded",
    stream=(Span("n", masked=0.3),),
    relation=right_padded,
    arguments={"attention_mask": Attend("2-D int")},
)
# The canvas of the sampler: a prefix that is clean, and noise that sees all.
NOISE = Layout(
    "noise",
    stream=(Span("n//3"), Span("n-n//3", masked=0.5)),
    relation=clean_prefix,
    arguments={"attention_mask": Attend("3-D bool")},
)
# resid_scale / num_hidden_layers of the miniature, which multiplies both branches of every layer.
SHARE = 2.0
QK_NORM = ("blocks.{layer}.attn.q_norm", "blocks.{layer}.attn.k_norm")

SPEC = AdapterSpec(
    name="gidd",
    module=__name__,
    architecture="GiddForDiffusionLM",
    auto_class="AutoModelForCausalLM",
    fixture="gidd",
    sizes={
        "n": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "d_model": "hidden_size",
        "d_mlp": "intermediate_size",
        "d_vocab": "vocab_size",
    },
    mask_token=Size("3"),
    layouts=(PLAIN, PADDED, NOISE),
    points={
        "embed": "model.embed_tokens",
        "blocks.{layer}": "model.layers.{layer}",
        "blocks.{layer}.ln1": "model.layers.{layer}.attn_layernorm",
        "blocks.{layer}.attn": "model.layers.{layer}.self_attn",
        "blocks.{layer}.attn.q": "model.layers.{layer}.self_attn.q_proj",
        "blocks.{layer}.attn.k": "model.layers.{layer}.self_attn.k_proj",
        "blocks.{layer}.attn.v": "model.layers.{layer}.self_attn.v_proj",
        "blocks.{layer}.attn.q_norm": "model.layers.{layer}.self_attn.q_norm",
        "blocks.{layer}.attn.k_norm": "model.layers.{layer}.self_attn.k_norm",
        "blocks.{layer}.attn.o": "model.layers.{layer}.self_attn.o_proj",
        "blocks.{layer}.ln2": "model.layers.{layer}.mlp_layernorm",
        "blocks.{layer}.mlp": "model.layers.{layer}.mlp",
        "blocks.{layer}.mlp.in": "model.layers.{layer}.mlp.up_proj",
        "blocks.{layer}.mlp.out": "model.layers.{layer}.mlp.down_proj",
        "ln_final": "model.norm",
        "unembed": "lm_head",
    },
    branches=(
        Branch(
            "blocks.{layer}.hook_resid_pre", "blocks.{layer}.attn.o.hook_out", "blocks.{layer}.hook_resid_mid", SHARE
        ),
        Branch(
            "blocks.{layer}.hook_resid_mid", "blocks.{layer}.mlp.out.hook_out", "blocks.{layer}.hook_resid_post", SHARE
        ),
    ),
    variants={
        "without query and key norm": Variant({"use_qk_norm": False}, without=QK_NORM),
        "without slot": Variant({"attention_bias": False}),
        "without MLP biases": Variant({"mlp_bias": False}),
        "scaled by inputs": Variant({"weight_scaling": "fan_in"}),
        "scaled by outputs": Variant({"weight_scaling": "fan_out"}),
        "tight cap": Variant({"attn_soft_cap": 1.5}),
        "other base": Variant({"rope_theta": 100.0}),
        "uniform noise": Variant({"noise_type": 1000.0}),
        "other heads": Variant({"num_attention_heads": 2}),
        "shorter": Variant({"max_position_embeddings": 15}),
    },
    rotary=Rotary(
        before=("blocks.{layer}.attn.hook_unrot_q", "blocks.{layer}.attn.hook_unrot_k"),
        after=("blocks.{layer}.attn.hook_rot_q", "blocks.{layer}.attn.hook_rot_k"),
    ),
    slots=1,
    oracle="conformance.oracles.gidd:forward",
    truths={
        "n_ctx": Size("n"),
        "n_layers": Size("layers"),
        "n_heads": Size("heads"),
        "d_model": Size("d_model"),
        "d_head": Size("d_model//heads"),
        "d_mlp": Size("d_mlp"),
        "d_vocab": Size("d_vocab"),
        "eps": 1e-6,
        "act_fn": frozenset({"relu2", "relu_squared", "squared_relu"}),
        "normalization_type": "RMS",
        "rmsnorm_uses_offset": True,
        "gated_mlp": False,
        "attention_dir": "bidirectional",
        "positional_embedding_type": "rotary",
        "rotary_base": 10_000,
        "rotary_dim": Size("d_model//heads"),
        "attn_scores_soft_cap": 30.0,
        "mask_token_id": Size("3"),
    },
    capabilities={
        "loss": Impossible("a shifted causal loss is undefined for a model that denoises every token in its place"),
        "generate": Impossible("text comes from the denoising loop, not from next tokens"),
    },
    sampler=Sampler(
        later("gidd:generate"),
        layout="plain",
        arguments=later("gidd:whole"),
        options={"block_length": 4},
        further=({"sampling_method": "adaptive", "tokens_per_step": 2}, {"noise_schedule": "cosine", "steps": 6}),
        absorbing=False,
        ending=lambda token: {"eos_token_id": token},
        native="generate",
        resumable=False,
        block=4,
        from_prompt=True,
    ),
    bench={"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "max_position_embeddings": 128},
    axes=("n", "n//3", "d_model//heads", "d_model", "d_mlp", "d_vocab"),
)
