"""Conformance tests for TransformerLens bridge adapters of diffusion language models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .booting import boot
    from .spec import AdapterSpec, Branch, Chunk, Impossible, Layout, MaskTensor, NotYet, PerRow, Size, Span
    from .verification import Report, verify

_HOMES = {
    "booting": ("boot",),
    "spec": (
        "AdapterSpec",
        "Branch",
        "Chunk",
        "Impossible",
        "Layout",
        "MaskTensor",
        "NotYet",
        "PerRow",
        "Size",
        "Span",
    ),
    "verification": ("Report", "verify"),
}

__all__ = [
    "AdapterSpec",
    "Branch",
    "Chunk",
    "Impossible",
    "Layout",
    "MaskTensor",
    "NotYet",
    "PerRow",
    "Report",
    "Size",
    "Span",
    "boot",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: pytest loads this package at every start, wanted or not."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
