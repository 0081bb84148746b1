"""Dream as TransformerLens ships it, loaded at all, and with its tables of rotation computed anew."""

from __future__ import annotations

from dataclasses import replace

from . import dream

SPEC = replace(
    dream.SPEC,
    name="dream@repaired",
    module=__name__,
    adapter="conformance.loadable:Dream",
    repair="conformance.loadable:reset_rope",
)
