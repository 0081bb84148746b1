"""Repairs: what a user puts right in a bridge that boots and does not come out whole."""

from __future__ import annotations

from typing import Any


def refill_rope(bridge: Any) -> None:
    """Compute LLaDA2's table of rotation anew, by the model's own initialiser: loading leaves it uninitialised.

    Its documentation says nothing of it; transformers fills such tables in an `_init_weights` of its own, which the
    released class replaces.
    """
    rotary = bridge.original_model.model.rotary_emb
    rotary = getattr(rotary, "original_component", rotary)
    table, rotary.attention_scaling = rotary.rope_init_fn(rotary.config, rotary.inv_freq.device)
    rotary.inv_freq.copy_(table)
    rotary.original_inv_freq = rotary.inv_freq
