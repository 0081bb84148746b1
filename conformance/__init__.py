"""Conformance tests for TransformerLens bridge adapters of diffusion language models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .booting import boot
    from .denoising import trace_denoising
    from .difference import Difference, diff
    from .facts import Branch, Chunk, Dial, Halves, KeyValueCache, Limit, Rotary, Sampler, Value, Variant
    from .layout import Attend, Layout, MaskTensor, PerRow, Span
    from .sizes import Size
    from .spec import AdapterSpec, Impossible, NotYet
    from .subject import example
    from .trace import Trace
    from .verification import Report, verify

_HOMES = {
    "booting": ("boot",),
    "denoising": ("trace_denoising",),
    "difference": ("Difference", "diff"),
    "facts": ("Branch", "Chunk", "Dial", "Halves", "KeyValueCache", "Limit", "Rotary", "Sampler", "Value", "Variant"),
    "layout": ("Attend", "Layout", "MaskTensor", "PerRow", "Span"),
    "sizes": ("Size",),
    "spec": ("AdapterSpec", "Impossible", "NotYet"),
    "subject": ("example",),
    "trace": ("Trace",),
    "verification": ("Report", "verify"),
}

__all__ = [
    "AdapterSpec",
    "Attend",
    "Branch",
    "Chunk",
    "Dial",
    "Difference",
    "Halves",
    "Impossible",
    "KeyValueCache",
    "Layout",
    "Limit",
    "MaskTensor",
    "NotYet",
    "PerRow",
    "Report",
    "Rotary",
    "Sampler",
    "Size",
    "Span",
    "Trace",
    "Value",
    "Variant",
    "boot",
    "diff",
    "example",
    "trace_denoising",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: pytest loads this package at every start, wanted or not."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
