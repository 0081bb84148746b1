"""LLaDA as TransformerLens ships it, around a model that its user has built: transformers 5 cannot load the class."""

from __future__ import annotations

from dataclasses import replace

from . import llada

SPEC = replace(llada.SPEC, name="llada@repaired", module=__name__, built=True)
