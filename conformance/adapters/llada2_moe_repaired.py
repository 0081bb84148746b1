"""LLaDA2-MoE as TransformerLens ships it, with its table of rotation computed anew."""

from __future__ import annotations

from dataclasses import replace

from . import llada2_moe

SPEC = replace(
    llada2_moe.SPEC,
    name="llada2_moe@repaired",
    module=__name__,
    repair="conformance.repairs:refill_rope",
)
