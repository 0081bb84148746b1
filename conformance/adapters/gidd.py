"""GIDD, generalized interpolating discrete diffusion (arXiv 2503.04482), as TransformerLens ships its adapter."""

from __future__ import annotations

from ..oracles.relations import clean_prefix, everyone, right_padded
from ..samplers import later
from ..spec import NOT_CAUSAL, AdapterSpec, Attend, Branch, Layout, Rotary, Sampler, Size, Span, Value, Variant

TEXT, CANVAS = (Span("n", masked=0.5),), (Span("n//3"), Span("n-n//3", masked=0.5))
KEYS, PAIRS = {"attention_mask": Attend("2-D int")}, {"attention_mask": Attend("3-D bool")}
PLAIN = Layout("plain", TEXT, everyone, ragged=True)
# On the right: what stands behind padding is counted from other positions by the bridge than by the model.
PADDED = Layout("padded", TEXT, right_padded, KEYS)
# What the sampler works on: a prefix that is clean, and noise that sees all.
NOISE = Layout("noise", CANVAS, clean_prefix, PAIRS)
MASK = Size("3")  # a default of the sampler; no config field holds it
SHARE = Value("resid_scale", over="num_hidden_layers")
L, M = "blocks.{layer}", "model.layers.{layer}"

SPEC = AdapterSpec(
    name="gidd",
    module=__name__,
    architecture="GiddForDiffusionLM",
    auto_class="AutoModelForCausalLM",
    fixture="gidd",
    sizes={"n": "max_position_embeddings", "layers": "num_hidden_layers", "heads": "num_attention_heads"}
    | {"d_model": "hidden_size", "d_mlp": "intermediate_size", "d_vocab": "vocab_size"},
    mask_token=MASK,
    slots=1,
    layouts=(PLAIN, PADDED, NOISE),
    points={"embed": "model.embed_tokens", "ln_final": "model.norm", "unembed": "lm_head"}
    | {L: M, f"{L}.ln1": f"{M}.attn_layernorm", f"{L}.ln2": f"{M}.mlp_layernorm", f"{L}.attn": f"{M}.self_attn"}
    | {f"{L}.attn.{part}": f"{M}.self_attn.{part}_proj" for part in "qkvo"}
    | {f"{L}.attn.{part}_norm": f"{M}.self_attn.{part}_norm" for part in "qk"}
    | {f"{L}.mlp": f"{M}.mlp", f"{L}.mlp.in": f"{M}.mlp.up_proj", f"{L}.mlp.out": f"{M}.mlp.down_proj"},
    branches=(
        Branch(f"{L}.hook_resid_pre", f"{L}.attn.o.hook_out", f"{L}.hook_resid_mid", SHARE),
        Branch(f"{L}.hook_resid_mid", f"{L}.mlp.out.hook_out", f"{L}.hook_resid_post", SHARE),
    ),
    variants={
        "without QK norm": Variant({"use_qk_norm": False}, without=(f"{L}.attn.q_norm", f"{L}.attn.k_norm")),
        "without slot": Variant({"attention_bias": False}),
        "without MLP biases": Variant({"mlp_bias": False}),
        "scaled by inputs": Variant({"weight_scaling": "fan_in"}),
        "scaled by outputs": Variant({"weight_scaling": "fan_out"}),
        "tight cap": Variant({"attn_soft_cap": 1.5}),
        "other base": Variant({"rope_theta": 100.0}),
        "uniform noise": Variant({"noise_type": 1000.0}),
        "other heads and length": Variant({"num_attention_heads": 2, "max_position_embeddings": 15}),
    },
    rotary=Rotary(
        before=(f"{L}.attn.hook_unrot_q", f"{L}.attn.hook_unrot_k"),
        after=(f"{L}.attn.hook_rot_q", f"{L}.attn.hook_rot_k"),
    ),
    oracle="conformance.oracles.gidd:forward",
    truths={"normalization_type": "RMS", "eps": 1e-6, "rmsnorm_uses_offset": True, "attention_dir": "bidirectional"}
    | {"act_fn": frozenset({"relu2", "relu_squared"}), "gated_mlp": False}
    | {"attn_scores_soft_cap": Value("attn_soft_cap")},
    capabilities=NOT_CAUSAL,
    sampler=Sampler(
        sample=later("gidd:generate"),
        native="generate",
        layout="plain",
        arguments=later("gidd:whole"),
        options={"block_length": 4},
        further=(
            {"sampling_method": "adaptive", "tokens_per_step": 2},
            {"noise_schedule": "cosine", "steps": 6},
            # Each where nothing else decides: whatever drops it draws other tokens.
            *({option: value} for option, value in {"temperature": 3.0, "top_k": 2, "top_p": 0.4}.items()),
        ),
        ending=lambda token: {"eos_token_id": token},
        absorbing=False,
        resumable=False,
        block=4,
        from_prompt=True,
    ),
    bench={"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "max_position_embeddings": 256},
    axes=("n", "n//3", "d_model//heads", "d_model", "d_mlp", "d_vocab"),
)
