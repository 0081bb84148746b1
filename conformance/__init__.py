"""Conformance tests for TransformerLens bridge adapters of diffusion language models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .spec import AdapterSpec, Impossible, Layout, MaskTensor, NotYet, PerRow, Size, Span

if TYPE_CHECKING:
    from .booting import boot
    from .verification import Report, verify

__all__ = [
    "AdapterSpec",
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

_LATE = {"boot": "booting", "Report": "verification", "verify": "verification"}


def __getattr__(name: str) -> Any:
    """Import what needs torch or pytest when it is asked for."""
    if name in _LATE:
        return getattr(importlib.import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
