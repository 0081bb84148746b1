"""BD3LM with the complete adapter of `conformance.reference`: the same model, every requirement, no deviation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..spec import Branch, Dial, Sampler
from .bd3lm import MODULATION, SIGMA, TRAIN
from .bd3lm import SPEC as SHIPPED


def turn_block_size(bridge: Any, size: int) -> None:
    """Set the block size the way a user does."""
    bridge.block_size = size


def sample(bridge: Any, prompt: Any, **options: Any) -> Any:
    """What `bridge.denoise` does with ids, for whatever stands in for the bridge."""
    from ..reference.sampler import denoise

    return denoise(bridge, prompt, **options)


def noise_level(step: Any) -> dict[str, Any]:
    """What the model gets for a step's noise level: sigma of the loglinear schedule, which ends at SIGMA's."""
    return {"timesteps": (-(-step.t.clamp(0, 1)).log1p()).clamp(max=SIGMA.high).float()}


SPEC = replace(
    SHIPPED,
    name="bd3lm-reference",
    module=__name__,
    adapter="conformance.reference.adapter:BD3LMReferenceAdapter",
    plain=False,
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
        name: replace(variant, without=(*MODULATION, "adaln_final")) if variant.without else variant
        for name, variant in SHIPPED.variants.items()
    },
    dial=Dial(turn_block_size),
    capabilities={name: reason for name, reason in SHIPPED.capabilities.items() if name != "denoise"},
    ceilings={
        # It leaves all arithmetic to the model.
        "forward": 1.1,
        # It shows every tensor, scores and patterns too, which fused attention makes for nobody else.
        "cache": 1.7,
    },
    sampler=Sampler(
        sample,
        layout="sample",
        arguments=noise_level,
        # With few times there are steps that reveal nothing, and draw again from what they have.
        further=({"times": "grid", "steps": 12},),
        cached={"cached": True},
        ending=lambda token: {"until_eos": True, "eos": token},
        open_ended=True,
    ),
)
