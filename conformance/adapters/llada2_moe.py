"""LLaDA2-MoE, the block-diffusion mixture of experts (inclusionAI, 2025), as TransformerLens ships its adapter."""

from __future__ import annotations

from dataclasses import replace

from ..oracles.relations import blocks_of, everyone
from ..samplers import later
from ..shims import default_rope
from ..spec import ADDED, NOT_CAUSAL, AdapterSpec, Attend, Layout, Rotary, Sampler, Size, Span, Variant

BLOCK = 4  # how many tokens are denoised together is an option of the sampler, and no field of the config
MASK = {"attention_mask": Attend("4-D additive")}  # the model takes no other, and none is no mask
FULL = Layout("full", (Span("n", masked=0.5),), everyone, MASK, ragged=True)
# A prompt and a block that is not full yet, as the sampler's window holds them.
BLOCKS = Layout("blocks", (Span("n-8"), Span("4", masked=0.75)), blocks_of(BLOCK), MASK, ragged=True)

L, M = "blocks.{layer}", "model.layers.{layer}"
PROJECTIONS = {"gate": "gate_proj", "in": "up_proj", "out": "down_proj"}
DENSE = {f"{L}.mlp.dense_{part}": f"{M}.mlp.{path}?" for part, path in PROJECTIONS.items()}
ROUTER, EXPERTS = {f"{L}.mlp.gate": f"{M}.mlp.gate?"}, f"{L}.mlp.shared_experts"
SHARED = {EXPERTS: f"{M}.mlp.shared_experts?"}
SHARED |= {f"{EXPERTS}.{part}": f"{M}.mlp.shared_experts.{path}?" for part, path in PROJECTIONS.items()}
NORMS = {f"{L}.attn.{part[0]}_norm": f"{M}.attention.{part}_layernorm" for part in ("query", "key")}

SPEC = AdapterSpec(
    name="llada2_moe",
    module=__name__,
    architecture="LLaDA2MoeModelLM",
    auto_class="AutoModelForCausalLM",
    fixture="llada2_moe",
    # The sampler's masks are in bfloat16, which fused attention in fp32 does not take.
    overrides={"attn_implementation": "eager"},
    shim=default_rope,
    sizes={"n": "max_position_embeddings", "layers": "num_hidden_layers", "heads": "num_attention_heads"}
    | {"kv_heads": "num_key_value_heads", "d_head": "head_dim", "d_model": "hidden_size", "d_vocab": "vocab_size"}
    | {"d_mlp": "intermediate_size", "d_expert": "moe_intermediate_size"}
    | {"experts": "num_experts", "chosen": "num_experts_per_tok"},
    # The id stands in the tokenizer and in the sampler's defaults, in no config.
    mask_token=Size("min(d_vocab-1, 156895)"),
    layouts=(FULL, BLOCKS),
    points={"embed": "model.word_embeddings", "rotary_emb": "model.rotary_emb", L: M}
    | {f"{L}.ln1": f"{M}.input_layernorm", f"{L}.attn": f"{M}.attention"}
    | {f"{L}.attn.qkv": f"{M}.attention.query_key_value", **NORMS, f"{L}.attn.o": f"{M}.attention.dense"}
    | {f"{L}.ln2": f"{M}.post_attention_layernorm", f"{L}.mlp": f"{M}.mlp", **DENSE, **ROUTER, **SHARED}
    | {"ln_final": "model.norm", "unembed": "lm_head"},
    branches=(ADDED[0], replace(ADDED[1], raw=f"{L}.mlp.hook_out")),
    variants={
        "experts everywhere": Variant({"first_k_dense_replace": 0}, without=tuple(DENSE)),
        "experts nowhere": Variant({"first_k_dense_replace": Size("layers")}, without=(*ROUTER, *SHARED)),
        "no shared experts": Variant({"num_shared_experts": 0}, without=tuple(SHARED)),
        "two shared experts": Variant({"num_shared_experts": 2}),
        "one of two groups": Variant({"n_group": 2, "topk_group": 1}),
        "one head of keys": Variant({"num_key_value_heads": 1}),
        "all channels rotated": Variant({"partial_rotary_factor": 1.0}),
        "without query and key norms": Variant({"use_qk_norm": False}, without=tuple(NORMS)),
        "with biases": Variant({"use_bias": True, "use_qkv_bias": True}),
    },
    rotary=Rotary(
        (f"{L}.attn.hook_normed_q", f"{L}.attn.hook_normed_k"), base=600_000.0, share=0.5, tables="rotary_emb"
    ),
    oracle="conformance.oracles.llada2_moe:forward",
    truths={"eps": 1e-6, "act_fn": "silu", "gated_mlp": True, "normalization_type": "RMS"}
    | {"attention_dir": "bidirectional", "num_experts": Size("experts"), "experts_per_token": Size("chosen")},
    capabilities=NOT_CAUSAL,
    sampler=Sampler(
        later("llada2_moe:generate"),
        native="generate",
        layout="blocks",
        arguments=lambda step: {},
        # The sampler's own ids lie beyond the miniature's vocabulary; its text has no end unless it is given one.
        options={"block_length": BLOCK, "mask_id": 66},
        further=({"temperature": 0.7, "top_k": 9, "top_p": 0.9, "steps": 2}, {"threshold": 0.05}, {"minimal_topk": 4}),
        ending=lambda token: {"eos_id": token},
        resumable=False,
        most_rows=1,
        block=BLOCK,
    ),
    bench={"hidden_size": 256, "intermediate_size": 1024, "moe_intermediate_size": 256, "head_dim": 64}
    | {"num_hidden_layers": 4, "max_position_embeddings": 256},
    axes=("n", "(heads+2*kv_heads)*d_head"),
)
