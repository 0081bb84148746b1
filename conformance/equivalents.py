"""Mutants that change nothing in one adapter, each with the proof: a file beside the ledger, as strict as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from . import entries
from .spec import AdapterSpec, nearest

FIELDS = ("mutant", "because")


class EquivalentError(ValueError):
    """A file that cannot be trusted; the message names file, entry and what to write instead."""


def path_of(spec: AdapterSpec) -> Path:
    """Where an adapter's are written down: `NAME.equivalents.toml`."""
    return spec.folder / f"{spec.name}.equivalents.toml"


def read(path: Path, known: Collection[str]) -> dict[str, str]:
    """The proof by the id of the mutant; none where there is no file.

    Raises:
        EquivalentError: no TOML, an unknown field or mutant, a mutant twice, or a proof that is none.
    """
    table = entries.table(path, EquivalentError)
    raw = table.get("equivalent", [])
    if set(table) - {"equivalent"} or not isinstance(raw, list):
        raise EquivalentError(f"{path}: got {', '.join(table)}, want entries that are written as [[equivalent]]")
    found: dict[str, str] = {}
    for number, entry in enumerate(raw, 1):
        mutant, because = _entry(f"{path}, entry {number}", entry, known)
        if mutant in found:
            raise EquivalentError(f"{path}, entry {number}: {mutant} stands there twice; keep one proof")
        found[mutant] = because
    return found


def _entry(where: str, entry: Mapping[str, Any], known: Collection[str]) -> tuple[str, str]:
    for name in entry:
        if name not in FIELDS:
            raise EquivalentError(f"{where}: unknown field {name!r}{nearest(name, FIELDS)}")
    for name in FIELDS:
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise EquivalentError(f"{where}: field {name!r} is missing or no text; an entry says {', '.join(FIELDS)}")
    if entry["mutant"] not in known:
        raise EquivalentError(f"{where}: unknown mutant {entry['mutant']!r}{nearest(entry['mutant'], known)}")
    if entry["because"].strip().upper().startswith("TODO"):
        raise EquivalentError(f"{where}: because = {entry['because']!r} proves nothing; say why nothing can be noticed")
    return entry["mutant"], entry["because"]
