"""BD3LM with the complete adapter of `conformance.reference`: the same model, every requirement, no deviation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..spec import Branch, Dial
from .bd3lm import MODULATION, TRAIN
from .bd3lm import SPEC as SHIPPED

MODULATION = (*MODULATION, "adaln_final")


def turn_block_size(bridge: Any, size: int) -> None:
    """Set the block size the way a user does."""
    bridge.block_size = size


SPEC = replace(
    SHIPPED,
    name="bd3lm-reference",
    module=__name__,
    adapter="conformance.reference.adapter:BD3LMReferenceAdapter",
    # Both halves are projected together, so that every hook fires once.
    layouts=(replace(TRAIN, fires={}), *SHIPPED.layouts[1:]),
    points={**SHIPPED.points, "adaln_final": "backbone.output_layer.adaLN_modulation"},
    branches=(
        Branch(
            before="blocks.{layer}.hook_resid_pre",
            raw="blocks.{layer}.attn.hook_out",
            gate="blocks.{layer}.hook_gate_attn",
            after="blocks.{layer}.hook_resid_mid",
        ),
        Branch(
            before="blocks.{layer}.hook_resid_mid",
            raw="blocks.{layer}.mlp.hook_out",
            gate="blocks.{layer}.hook_gate_mlp",
            after="blocks.{layer}.hook_resid_post",
        ),
    ),
    variants={
        name: replace(variant, without=MODULATION) if variant.without else variant
        for name, variant in SHIPPED.variants.items()
    },
    dial=Dial(turn_block_size),
)
