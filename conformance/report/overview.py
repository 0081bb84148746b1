"""The reports of several runs in one table: adapters and their models down, environments across."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .badge import counts, label
from .document import Document


def table(documents: Mapping[str, list[Document]]) -> Iterator[str]:
    """Lines of Markdown, for reports by environment; a model that an environment did not judge has a blank there."""
    rows: dict[str, dict[str, str]] = {}
    for environment, reports in documents.items():
        for adapter in (adapter for report in reports for adapter in report["verdicts"]["adapters"]):
            name = label(adapter["adapter"], adapter["model"])
            rows.setdefault(name, {})[environment] = verdict(adapter["summary"])
    yield f"| adapter (model) | {' | '.join(environment or 'verdict' for environment in documents)} |"
    yield f"|---|{'---|' * len(documents)}"
    for name, cells in rows.items():
        yield f"| {name} | {' | '.join(cells.get(environment, '') for environment in documents)} |"


def verdict(summary: Mapping[str, Any]) -> str:
    """`conforms: 41/41 MUST · 2 deviations`; red is what was not declared."""
    word = "RED" if summary["red"] else "conforms" if summary["conforms"] else "does not conform"
    return f"{word}: {counts(summary)}"
