"""Truths that need no telling: what a spec says elsewhere of its model holds of `bridge.cfg`, too."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from .facts import Rotary, Value
from .sizes import Size

FIELDS = {
    "n": "n_ctx",
    "layers": "n_layers",
    "heads": "n_heads",
    "kv_heads": "n_key_value_heads",
    "d_model": "d_model",
    "d_mlp": "d_mlp",
    "d_vocab": "d_vocab",
    "block": "block_size",
}
"""Fields of `bridge.cfg` by the name of the size that they hold."""


def implied(sizes: Mapping[str, str], mask_token: Size | None, rotary: Rotary | None) -> dict[str, object]:
    """Fields of `bridge.cfg` with their values: sizes, the width of a head, the mask's id, and rotation."""
    found: dict[str, object] = {field: Size(name) for name, field in FIELDS.items() if name in sizes}
    head = "d_head" if "d_head" in sizes else "d_model//heads" if {"d_model", "heads"} <= sizes.keys() else None
    if head is not None:
        found["d_head"] = Size(head)
    if mask_token is not None:
        found["mask_token_id"] = mask_token
    if rotary is not None:
        found |= {"positional_embedding_type": "rotary", "rotary_base": int(rotary.base)}
        share = Fraction(rotary.share).limit_denominator(64)
        if head is not None:
            found["rotary_dim"] = Size(f"({head})*{share.numerator}//{share.denominator}" if share != 1 else head)
    return found


def told(truth: object, sizes: Mapping[str, int], config: Mapping[str, Any]) -> Any:
    """What a truth is for one checkpoint, by its sizes and its config."""
    if isinstance(truth, Size):
        return truth.of(sizes)
    return truth.of(config) if isinstance(truth, Value) else truth
