"""The hook tree of a report, as `snapshot/hook-tree` shows it: a line for each hook, in firing order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TREE = "snapshot/hook-tree"
"""The requirement whose facts hold the lines."""

LINE = re.compile(r"(?P<name>[^:]+): (?P<shapes>.*?)(?: x(?P<times>\d+))?(?: = (?P<aliases>.*))?")

SILENT = ("refused", "never fires")
"""What stands in the place of shapes where there are none."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One line: a canonical name, the shapes and dtypes that it fires with, how often, and its other names.

    `place` counts from 1 in firing order, and is None where it never fires, for the reason in `silent`.
    """

    name: str
    shapes: tuple[str, ...] = ()
    times: int = 0
    aliases: tuple[str, ...] = ()
    place: int | None = None
    silent: str = ""


def trees(adapter: Mapping[str, Any]) -> dict[str, list[str]]:
    """The lines by layout, of those where the hook tree was looked at."""
    results = (result for result in adapter["results"] if result["requirement"] == TREE)
    return {result["layout"]: result["facts"]["tree"] for result in results if "tree" in result.get("facts", {})}


def hooks(lines: Sequence[str]) -> dict[str, Hook]:
    """What the lines say, by canonical name."""
    found: dict[str, Hook] = {}
    for place, line in enumerate(lines, 1):
        match = LINE.fullmatch(line)
        if match is None:
            continue
        name, shapes = match["name"], match["shapes"]
        if shapes in SILENT:
            found[name] = Hook(name, silent=shapes)
            continue
        aliases = tuple((match["aliases"] or "").split(", ")) if match["aliases"] else ()
        found[name] = Hook(name, tuple(shapes.split(" | ")), int(match["times"] or 1), aliases, place)
    return found


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[str]]:
    """Lines of one adapter's trees that went, with `-`, and came, with `+`, by layout, of those that both have."""
    was, now = trees(before), trees(after)
    return {layout: _diff(was[layout], now[layout]) for layout in now if layout in was}


def _diff(before: Sequence[str], after: Sequence[str]) -> list[str]:
    lines = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
    return [line for line in lines if not line.startswith("@@")]
