"""The gate for a change to an adapter repository: two revisions, judged apart and compared."""

from __future__ import annotations


class GateError(ValueError):
    """A gate that cannot be held; the message is one line and ends with what to do."""
