"""BD3LM, the block diffusion language model (arXiv 2503.09573), as TransformerLens ships its adapter."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..oracles.relations import block_causal, block_diffusion_training, causal, everyone, restarting
from ..spec import (
    ADDED,
    NOT_CAUSAL,
    AdapterSpec,
    Chunk,
    Dial,
    Halves,
    Impossible,
    KeyValueCache,
    Layout,
    Limit,
    MaskTensor,
    PerRow,
    Rotary,
    Size,
    Span,
    Variant,
)

# "timesteps" are noise levels sigma = -log(1 - p); the loglinear schedule ends at -log(1e-3).
SIGMA = PerRow(0.0, math.log(1e3), when={"time_conditioning": True, "adaln": True})

TRAIN = Layout(
    name="train",
    stream=(Span("n", masked=0.5), Span("n")),
    arguments={"timesteps": SIGMA},
    relation=block_diffusion_training,
    returns=("0", "n"),
    # Noisy and clean half are projected one after the other: their positions restart.
    fires={"blocks.{layer}.attn.qkv": 2},
    mask=MaskTensor("backbone.mask"),
    positions=restarting,
)

SAMPLE = Layout(
    name="sample",
    # A prompt of whole blocks and a block that is not full yet, as the sampler's window holds them.
    stream=(Span("max(n-2*block, 0)"), Span("max(block-1, 1)", masked=0.5)),
    arguments={"timesteps": SIGMA, "sample_mode": True},
    relation=block_causal,
    mask=MaskTensor("backbone.mask", "n"),
    ragged=True,
)

# Checkpoints of the same class without the 2n layout: one stream, and no mask or a causal one (MDLM, AR baselines).
PLAIN = Layout(
    name="plain", stream=(Span("n", masked=0.5),), arguments={"timesteps": SIGMA}, relation=everyone, ragged=True
)
CAUSAL = replace(PLAIN, name="causal", relation=causal)

MODULATION = ("sigma_map", "sigma_map.in", "sigma_map.out", "blocks.{layer}.adaln_modulation")


def open_cache(model: Any, batch: int) -> None:
    """Give every block room for n tokens."""
    from ..reference.kv import open_cache

    open_cache(model, batch)


def close_cache(model: Any) -> None:
    """Forget what was kept."""
    from ..reference.kv import close_cache

    close_cache(model)


def turn_block_size(bridge: Any, size: int) -> None:
    """Set the block size of a live bridge. The adapter offers nothing for it: the mask that the model makes, and every
    place that keeps the size, since the cache reads it from the blocks and analysis from the two configs.
    """
    model = bridge.original_model
    backbone = model.backbone
    backbone.gen_mask(backbone.n, size, attn_backend=backbone.blocks[0].attn_backend)
    for owner in (backbone, *backbone.blocks, model.config, bridge.cfg):
        owner.block_size = size


SPEC = AdapterSpec(
    name="bd3lm",
    module=__name__,
    architecture="BD3LM",
    auto_class="AutoModelForMaskedLM",
    fixture="bd3lm",
    # The released config says "flex", which needs CUDA; sample_mode asserts "sdpa" on the config itself.
    overrides={"attn_backend": "sdpa"},
    sizes={
        "n": "model_length",
        "block": "block_size",
        "layers": "n_blocks",
        "heads": "n_heads",
        "d_model": "hidden_dim",
        "d_vocab": "vocab_size",
        "d_cond": "cond_dim",
    },
    mask_token=Size("d_vocab-1"),
    layouts=(TRAIN, SAMPLE),
    points={
        "embed": "backbone.vocab_embed",
        "sigma_map": "backbone.sigma_map.mlp",
        "sigma_map.in": "backbone.sigma_map.mlp.0",
        "sigma_map.out": "backbone.sigma_map.mlp.2",
        "blocks.{layer}": "backbone.blocks.{layer}",
        "blocks.{layer}.adaln_modulation": "backbone.blocks.{layer}.adaLN_modulation",
        "blocks.{layer}.ln1": "backbone.blocks.{layer}.norm1",
        "blocks.{layer}.attn.qkv": "backbone.blocks.{layer}.attn_qkv",
        "blocks.{layer}.attn.o": "backbone.blocks.{layer}.attn_out",
        "blocks.{layer}.ln2": "backbone.blocks.{layer}.norm2",
        "blocks.{layer}.mlp": "backbone.blocks.{layer}.mlp",
        "blocks.{layer}.mlp.in": "backbone.blocks.{layer}.mlp.0",
        "blocks.{layer}.mlp.out": "backbone.blocks.{layer}.mlp.2",
        "ln_final": "backbone.output_layer.norm_final",
        "unembed": "backbone.output_layer.linear",
    },
    # What each part adds goes through its gate, the third and the sixth part of the modulation.
    branches=tuple(
        replace(branch, gate=Chunk("blocks.{layer}.adaln_modulation.hook_out", part, of=6))
        for branch, part in zip(ADDED, (2, 5), strict=True)
    ),
    variants={
        "blocks of one": Variant({"block_size": 1}),
        "one block": Variant({"block_size": Size("n")}),
        "conditioned on noise": Variant({"time_conditioning": True}),
        "other heads": Variant({"n_heads": 2}),
        "even length": Variant({"model_length": 16, "block_size": 4}),
        "without adaLN": Variant({"adaln": False}, without=MODULATION),
        "bidirectional": Variant({"cross_attn": False}, layouts=(PLAIN,)),
        "causal": Variant({"cross_attn": False, "causal": True}, layouts=(CAUSAL,)),
        "autoregressive": Variant(
            {"cross_attn": False, "causal": True, "adaln": False}, layouts=(CAUSAL,), without=MODULATION
        ),
    },
    limits=(
        Limit("full diffusion", layout="train", block="n", variant="bidirectional", positions=("0", "n")),
        Limit("autoregression", layout="sample", block="1", variant="causal"),
    ),
    halves=Halves("train", noisy=("0", "n"), clean=("n", "2*n"), alone="sample"),
    cache=KeyValueCache("sample", open=open_cache, close=close_cache, commit={"store_kv": True}),
    dial=Dial(turn_block_size),
    rotary=Rotary(),
    parameterisation="subs",
    oracle="conformance.oracles.bd3lm:forward",
    truths={
        "d_mlp": Size("4*d_model"),
        "eps": 1e-5,
        "act_fn": frozenset({"gelu_new", "gelu_pytorch_tanh"}),
        "normalization_type": "LN",
        "attention_dir": "bidirectional",
    },
    capabilities={
        **NOT_CAUSAL,
        "denoise": Impossible("the bridge leaves sampling to the model's own class, which has no sampler"),
    },
    bench={"hidden_dim": 256, "n_blocks": 4, "n_heads": 4, "model_length": 128, "block_size": 4, "cond_dim": 128},
    axes=("2*n", "n", "n-block-1", "d_model", "3*d_model", "4*d_model", "6*d_model", "d_cond", "d_vocab"),
)
