"""Dream as TransformerLens ships it, around a model that its user has built: loaded by it, the class fails."""

from __future__ import annotations

from dataclasses import replace

from . import dream

SPEC = replace(dream.SPEC, name="dream@repaired", module=__name__, built=True)
