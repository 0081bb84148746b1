"""LLaDA2-MoE, the block-diffusion mixture of experts (inclusionAI, 2025), as TransformerLens ships its adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..oracles.relations import blocks_of, everyone
from ..shims import default_rope
from ..spec import AdapterSpec, Attend, Branch, Impossible, Layout, Rotary, Sampler, Size, Span, Variant

if TYPE_CHECKING:
    from ..native import Forward, Label

# The model takes no other mask than this, and none is no mask.
MASK = {"attention_mask": Attend("4-D additive")}
FULL = Layout(name="full", stream=(Span("n", masked=0.5),), relation=everyone, arguments=MASK, ragged=True)
# Tokens that are denoised together, by an option of the sampler and no field of the config.
BLOCK = 4
# A prompt and a block that is not full yet, as the sampler's window holds them.
BLOCKS = Layout(
    name="blocks",
    stream=(Span(f"n-{2 * BLOCK}"), Span(f"{BLOCK}", masked=0.75)),
    relation=blocks_of(BLOCK),
    arguments=MASK,
    ragged=True,
)

LAYER, MLP = "model.layers.{layer}", "model.layers.{layer}.mlp"
DENSE = {
    "blocks.{layer}.mlp.dense_gate": f"{MLP}.gate_proj?",
    "blocks.{layer}.mlp.dense_in": f"{MLP}.up_proj?",
    "blocks.{layer}.mlp.dense_out": f"{MLP}.down_proj?",
}
SHARED = {
    "blocks.{layer}.mlp.shared_experts": f"{MLP}.shared_experts?",
    "blocks.{layer}.mlp.shared_experts.gate": f"{MLP}.shared_experts.gate_proj?",
    "blocks.{layer}.mlp.shared_experts.in": f"{MLP}.shared_experts.up_proj?",
    "blocks.{layer}.mlp.shared_experts.out": f"{MLP}.shared_experts.down_proj?",
}
ROUTER = {"blocks.{layer}.mlp.gate": f"{MLP}.gate?"}
NORMED = {
    "blocks.{layer}.attn.q_norm": f"{LAYER}.attention.query_layernorm",
    "blocks.{layer}.attn.k_norm": f"{LAYER}.attention.key_layernorm",
}


def sample(bridge: Any, prompt: Any, **told: Any) -> Any:
    """The model's own sampler; see `conformance.native`."""
    from ..native import sampler

    return sampler(label)(bridge, prompt, **told)


def label(forward: Forward) -> Label:
    """Every forward denoises the block at the end of its window; the noise level is the share of it that is masked."""
    from ..denoising import Kind
    from ..native import Label

    canvas, size, mask = forward.inputs["input_ids"], forward.options["block_length"], forward.options["mask_id"]
    end, level = canvas.shape[1], (canvas[:, -size:] == mask).float().mean(dim=1)
    return Label(Kind.DENOISE, end // size - 1, level, canvas, slice(0, end), mask)


SPEC = AdapterSpec(
    name="llada2_moe",
    module=__name__,
    architecture="LLaDA2MoeModelLM",
    auto_class="AutoModelForCausalLM",
    fixture="llada2_moe",
    # The sampler's masks are in bfloat16, which fused attention in fp32 does not take.
    overrides={"attn_implementation": "eager"},
    shim=default_rope,
    repair="conformance.loadable:show_lost_rope",
    sizes={
        "n": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "d_head": "head_dim",
        "d_model": "hidden_size",
        "d_mlp": "intermediate_size",
        "d_expert": "moe_intermediate_size",
        "experts": "num_experts",
        "chosen": "num_experts_per_tok",
        "d_vocab": "vocab_size",
    },
    # The id stands in the tokenizer and in the sampler's defaults, in no config.
    mask_token=Size("min(d_vocab-1, 156895)"),
    layouts=(FULL, BLOCKS),
    points={
        "embed": "model.word_embeddings",
        "rotary_emb": "model.rotary_emb",
        "blocks.{layer}": LAYER,
        "blocks.{layer}.ln1": f"{LAYER}.input_layernorm",
        "blocks.{layer}.attn": f"{LAYER}.attention",
        "blocks.{layer}.attn.qkv": f"{LAYER}.attention.query_key_value",
        **NORMED,
        "blocks.{layer}.attn.o": f"{LAYER}.attention.dense",
        "blocks.{layer}.ln2": f"{LAYER}.post_attention_layernorm",
        "blocks.{layer}.mlp": MLP,
        **DENSE,
        **ROUTER,
        **SHARED,
        "ln_final": "model.norm",
        "unembed": "lm_head",
    },
    branches=(
        Branch(
            before="blocks.{layer}.hook_resid_pre",
            raw="blocks.{layer}.attn.hook_out",
            after="blocks.{layer}.hook_resid_mid",
        ),
        Branch(
            before="blocks.{layer}.hook_resid_mid",
            raw="blocks.{layer}.mlp.hook_out",
            after="blocks.{layer}.hook_resid_post",
        ),
    ),
    variants={
        "experts everywhere": Variant({"first_k_dense_replace": 0}, without=tuple(DENSE)),
        "experts nowhere": Variant({"first_k_dense_replace": 2}, without=(*ROUTER, *SHARED)),
        "no shared experts": Variant({"num_shared_experts": 0}, without=tuple(SHARED)),
        "two shared experts": Variant({"num_shared_experts": 2}),
        "one of two groups": Variant({"n_group": 2, "topk_group": 1}),
        "one head of keys": Variant({"num_key_value_heads": 1}),
        "all channels rotated": Variant({"partial_rotary_factor": 1.0}),
        "without query and key norms": Variant({"use_qk_norm": False}, without=tuple(NORMED)),
        "with biases": Variant({"use_bias": True, "use_qkv_bias": True}),
    },
    rotary=Rotary(
        before=("blocks.{layer}.attn.hook_normed_q", "blocks.{layer}.attn.hook_normed_k"),
        after=("blocks.{layer}.attn.hook_rot_q", "blocks.{layer}.attn.hook_rot_k"),
        base=600_000.0,
        share=0.5,
    ),
    sampler=Sampler(
        sample,
        native="generate",
        layout="blocks",
        arguments=lambda step: {},
        # The sampler's own ids lie beyond the miniature's vocabulary; its text has no end unless it is given one.
        options={"block_length": BLOCK, "mask_id": 66},
        further=(
            {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "steps": 2},
            {"threshold": 0.05, "eos_early_stop": True},
            {"minimal_topk": 4},
        ),
        ending=lambda token: {"eos_id": token},
        resumable=False,
        most_rows=1,
        block=BLOCK,
    ),
    oracle="conformance.oracles.llada2_moe:forward",
    truths={
        "n_ctx": Size("n"),
        "n_layers": Size("layers"),
        "n_heads": Size("heads"),
        "n_key_value_heads": Size("kv_heads"),
        "d_model": Size("d_model"),
        "d_head": Size("d_head"),
        "d_mlp": Size("d_mlp"),
        "d_vocab": Size("d_vocab"),
        "num_experts": Size("experts"),
        "experts_per_token": Size("chosen"),
        "eps": 1e-6,
        "act_fn": "silu",
        "gated_mlp": True,
        "normalization_type": "RMS",
        "attention_dir": "bidirectional",
        "positional_embedding_type": "rotary",
        "rotary_base": 600_000,
        "rotary_dim": Size("d_head//2"),
        "mask_token_id": Size("min(d_vocab-1, 156895)"),
    },
    capabilities={
        "loss": Impossible("a shifted causal loss is undefined for masked diffusion"),
        "generate": Impossible("text comes from the denoising loop, not from next tokens"),
    },
    bench={
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "intermediate_size": 768,
        "moe_intermediate_size": 128,
        "head_dim": 64,
        "max_position_embeddings": 128,
    },
    axes=("n", "(heads+2*kv_heads)*d_head"),
)
