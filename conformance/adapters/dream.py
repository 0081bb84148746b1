"""Dream, the masked diffusion language model made from Qwen2.5 (arXiv 2508.15487), as TransformerLens ships it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..oracles.relations import causal, everyone
from ..spec import AdapterSpec, Attend, Branch, Impossible, Layout, Rotary, Sampler, Size, Span, Variant

if TYPE_CHECKING:
    from ..native import Forward, Label

PLAIN = Layout(name="plain", stream=(Span("n", masked=0.5),), relation=everyone, ragged=True)
# The model takes a relation from its caller and has none of its own; this one is that of its ancestor.
MASKED = replace(PLAIN, name="masked", relation=causal, arguments={"attention_mask": Attend("4-D bool")})
ADDITIVE = replace(MASKED, name="additive", arguments={"attention_mask": Attend("4-D additive")})


def shim(modeling: Any) -> None:
    """What the released code needs to be constructed, and to sample."""
    from ..shims import dream

    dream(modeling)


def sample(bridge: Any, prompt: Any, **told: Any) -> Any:
    """The model's own sampler; see `conformance.native`."""
    from ..native import sampler

    return sampler(label, shift=1)(bridge, prompt, **told)


def label(forward: Forward) -> Label:
    """One forward for each step, on the whole canvas; noise levels fall evenly from 1 to eps."""
    import torch

    from ..denoising import Kind
    from ..native import Label

    canvas, mask = forward.inputs["input_ids"], forward.config.mask_token_id
    steps = forward.options.get("steps", canvas.shape[1] - forward.prompt.shape[1])
    level = torch.linspace(1, forward.options.get("eps", 1e-3), steps + 1)[forward.number]
    kind = Kind.DENOISE if bool((canvas == mask).any()) else Kind.COMMIT
    return Label(kind, 0, level.expand(len(canvas)), canvas, slice(0, canvas.shape[1]), mask)


SPEC = AdapterSpec(
    name="dream",
    module=__name__,
    architecture="DreamModel",
    auto_class="AutoModel",
    fixture="dream",
    shim=shim,
    sizes={
        "n": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "groups": "num_key_value_heads",
        "d_model": "hidden_size",
        "d_mlp": "intermediate_size",
        "d_vocab": "vocab_size",
        "mask": "mask_token_id",
    },
    mask_token=Size("mask"),
    shift=1,
    layouts=(PLAIN, MASKED, ADDITIVE),
    points={
        "embed": "model.embed_tokens",
        "rotary_emb": "model.rotary_emb",
        "blocks.{layer}": "model.layers.{layer}",
        "blocks.{layer}.ln1": "model.layers.{layer}.input_layernorm",
        "blocks.{layer}.attn": "model.layers.{layer}.self_attn",
        "blocks.{layer}.attn.q": "model.layers.{layer}.self_attn.q_proj",
        "blocks.{layer}.attn.k": "model.layers.{layer}.self_attn.k_proj",
        "blocks.{layer}.attn.v": "model.layers.{layer}.self_attn.v_proj",
        "blocks.{layer}.attn.o": "model.layers.{layer}.self_attn.o_proj",
        "blocks.{layer}.ln2": "model.layers.{layer}.post_attention_layernorm",
        "blocks.{layer}.mlp": "model.layers.{layer}.mlp",
        "blocks.{layer}.mlp.gate": "model.layers.{layer}.mlp.gate_proj",
        "blocks.{layer}.mlp.in": "model.layers.{layer}.mlp.up_proj",
        "blocks.{layer}.mlp.out": "model.layers.{layer}.mlp.down_proj",
        "ln_final": "model.norm",
        "unembed": "lm_head",
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
        "heads of their own": Variant({"num_key_value_heads": 4}),
        "one head of keys": Variant({"num_key_value_heads": 1}),
        "other heads": Variant({"num_attention_heads": 2, "num_key_value_heads": 1}),
        "other base": Variant({"rope_theta": 100.0}),
        "without a cache": Variant({"use_cache": False}),
    },
    rotary=Rotary(
        before=("blocks.{layer}.attn.hook_q", "blocks.{layer}.attn.hook_k"),
        after=("blocks.{layer}.attn.hook_rot_q", "blocks.{layer}.attn.hook_rot_k"),
        base=1_000_000.0,
    ),
    sampler=Sampler(
        sample,
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
    oracle="conformance.oracles.dream:forward",
    truths={
        "n_ctx": Size("n"),
        "n_layers": Size("layers"),
        "n_heads": Size("heads"),
        "n_key_value_heads": Size("groups"),
        "d_model": Size("d_model"),
        "d_head": Size("d_model//heads"),
        "d_mlp": Size("d_mlp"),
        "d_vocab": Size("d_vocab"),
        "eps": 1e-6,
        "act_fn": "silu",
        "gated_mlp": True,
        "normalization_type": "RMS",
        "attention_dir": "bidirectional",
        "positional_embedding_type": "rotary",
        "rotary_base": 1_000_000,
        "rotary_dim": Size("d_model//heads"),
        "mask_token_id": Size("mask"),
    },
    capabilities={
        "loss": Impossible("a causal loss is undefined for masked diffusion"),
        "generate": Impossible("text comes from the denoising loop, not from next tokens"),
    },
    bench={
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 768,
        "max_position_embeddings": 128,
    },
    axes=("n", "d_model", "d_mlp", "d_vocab", "d_model//heads", "heads", "groups"),
)
