"""Reproductions: for a declared finding, at most ten lines that show it to whoever runs them.

The lines are templates by requirement, or by requirement and code of the finding, one module per family; what differs
between adapters comes out of the spec and the ledger's entry, by the names of `words.Words`.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

from ..ledger import Entry
from ..spec import AdapterSpec
from . import cache, denoising, gradients, hooks, interventions, loading, mask, parity
from .words import Words

LINES, WIDTH = 10, 120
"""What a reproduction may take."""

TEMPLATES: Mapping[str, str] = {
    id: text
    for family in (loading, hooks, cache, mask, parity, gradients, interventions, denoising)
    for id, text in family.TEMPLATES.items()
}
"""Templates by `family/name`, `family/name: code` or that and what a place says behind a colon; the most particular
one is taken."""


class NoReproduction(LookupError):
    """A declared finding that no template shows; the message says which to write, and where."""


def block(spec: AdapterSpec, entries: tuple[Entry, ...]) -> str:
    """The lines that show what `entries`, which have one requirement, finding and reason, declare of an adapter."""
    first = entries[0]
    known = f"{first.requirement}: {first.finding}"
    for key in (f"{known}: {first.at.partition(': ')[2]}", known, first.requirement):
        if key in TEMPLATES:
            filled = Words(spec, entries).fill(TEMPLATES[key])
            lines = [line for line in filled.splitlines() if line.strip()]
            if len(lines) > LINES or max(map(len, lines)) > WIDTH:
                raise ValueError(f"reproduction of {key!r}: want at most {LINES} lines of {WIDTH}, got\n{filled}")
            return "\n".join(lines) + "\n"
    raise NoReproduction(
        f"{first.requirement}: {first.finding} at {first.at} ({spec.name}): no reproduction; write a template in "
        f"conformance/reproductions/{first.requirement.partition('/')[0]}.py"
    )


def printed(code: str) -> str:
    """What the lines print, run in this process as a file of their own would be."""
    out, namespace = io.StringIO(), dict[str, Any]({"__name__": "__main__"})
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code, "reproduction.py", "exec"), namespace)
    return out.getvalue()
