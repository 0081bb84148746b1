"""The reports of several runs in one table: adapters and their models down, environments across."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .badge import counts, label
from .document import Document
from .markdown import block, code, table, text
from .terminal import unmet

Reports = Mapping[str, Sequence[Document]]
"""Reports by environment, in the order of the columns."""


def render(reports: Reports) -> str:
    """Markdown that can be read as it is: the table, then what makes a run red."""
    rows: dict[str, dict[str, str]] = {}
    for environment, name, adapter in _each(reports):
        rows.setdefault(name, {})[environment] = text(verdict(adapter["summary"]))
    head = ["adapter (model)", *(text(environment) or "verdict" for environment in reports)]
    parts = [table(head, ([code(name), *(cells.get(each, "") for each in reports)] for name, cells in rows.items()))]
    for environment, name, adapter in _each(reports):
        if adapter["summary"]["red"]:
            where = f"{name} with {environment}" if environment else name
            parts += [text(where), block("\n".join(unmet(adapter["results"])).rstrip())]
    return "\n\n".join(parts)


def _each(reports: Reports) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for environment, documents in reports.items():
        for adapter in (adapter for document in documents for adapter in document["verdicts"]["adapters"]):
            yield environment, label(adapter["adapter"], adapter["model"]), adapter


def verdict(summary: Mapping[str, Any]) -> str:
    """`conforms: 41/41 MUST · 2 deviations`; red is what nobody declared, other than being blocked as declared."""
    word = {True: "conforms", False: "does not conform", None: "no verdict"}[summary["conforms"]]
    return f"{'RED' if summary['red'] else word}: {counts(summary)}"
