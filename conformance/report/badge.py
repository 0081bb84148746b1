"""The badge: what was judged and with which counts, in the words of the closing line and of shields.io's endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLOURS = {True: "brightgreen", False: "red", None: "lightgrey"}
"""By whether the adapter conforms; None is a run without a verdict."""


def badge(adapter: str, model: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """A document for shields.io's endpoint badge: counts, never a percentage, and the model they hold for."""
    return {
        "schemaVersion": 1,
        "label": label(adapter, model),
        "message": counts(summary) if summary["conforms"] is not None else "no verdict",
        "color": COLOURS[summary["conforms"]],
    }


def label(adapter: str, model: Mapping[str, Any]) -> str:
    """`bd3lm (miniature)`: the adapter, and whether it was judged on the miniature or on which checkpoint."""
    return f"{adapter} ({'miniature' if model['miniature'] else model['label']})"


def counts(summary: Mapping[str, Any]) -> str:
    """`41/41 MUST · 2/3 SHOULD · 3 refused · 2 deviations`: what is met by refusing is not done."""
    parts = [f"{count['met']}/{count['of']} {level}" for level, count in summary["levels"].items() if count["of"]]
    if summary["refused"]:
        parts.append(f"{summary['refused']} refused")
    if summary["deviations"]:
        parts.append(f"{summary['deviations']} deviations")
    return " · ".join(parts)
