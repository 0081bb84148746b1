"""One report as the summary of a job: verdicts in a table, what is red, hooks, and deviations with their reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..spec import pattern_of
from . import overview, proof
from .coverage import FATES
from .document import Document
from .markdown import block, code, folded, table, text

HOOKS = ("layout", "hooks", "proven", *FATES)
DECLARED = ("requirement", "places", "because")


def render(document: Document) -> str:
    """Markdown of a whole report."""
    verdicts = document["verdicts"]
    versions = ", ".join(f"{name} {version}" for name, version in verdicts["versions"].items())
    parts = [f"## Conformance: {verdicts['state']}", overview.render({"": [document]})]
    for adapter in verdicts["adapters"]:
        parts += _adapter(adapter, one=len(verdicts["adapters"]) == 1)
    parts.append(text(f"contract {verdicts['contract']}, {versions}; digest {document['digest'][:16]}"))
    return "\n\n".join(parts) + "\n"


def _adapter(adapter: Mapping[str, Any], one: bool) -> Iterator[str]:
    """Hooks, deviations and mutants of one adapter; folded away below those of others."""
    parts = []
    if adapter["coverage"]:
        parts.append(table(HOOKS, (_hooks(layout, found) for layout, found in adapter["coverage"].items())))
    rows = [[code(id), ", ".join(map(code, places)), text(why)] for (id, why), places in _declared(adapter).items()]
    if rows:
        parts.append(folded(f"{adapter['summary']['deviations']} declared deviations", table(DECLARED, rows)))
    if "mutants" in adapter:
        parts.append(folded("mutants", block("\n".join(proof.lines(adapter)))))
    if one:
        yield from parts
    elif parts:
        yield folded(adapter["adapter"], "\n\n".join(parts))


def _hooks(layout: str, found: Mapping[str, Any]) -> list[str]:
    fates = (len(found[fate]) for fate in FATES)
    return [code(layout), *(str(number) for number in (found["advertised"], found["proven"], *fates))]


def _declared(adapter: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Patterns of places by requirement and reason."""
    places: dict[tuple[str, str], dict[str, None]] = {}
    for result in adapter["results"]:
        for finding in result.get("declared", ()):
            where = places.setdefault((result["requirement"], finding["because"]), {})
            where[pattern_of(finding["at"])] = None
    return {key: list(where) for key, where in places.items()}
