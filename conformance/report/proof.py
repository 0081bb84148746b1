"""What mutants prove of the suite: which of its requirements saw a defect that the rest of their family let pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Kills = Sequence[Mapping[str, Any]]
"""`mutants` of an adapter's part of a report."""

COLUMNS = {"SURVIVED": 10, "FORESTALLED": 13, "EQUIVALENT": 12, "NO PLACE": 10, "MOOT": 6, "ERROR": 7}
"""Fates of those that were not killed, and how wide their columns are."""

RED = frozenset({"SURVIVED", "ERROR"})
"""Fates that make a run red."""


def summary(kills: Kills) -> dict[str, Any]:
    """Mutants by fate, and requirements by what they are proven to see.

    `proven` have noticed a defect that the rest of their family lets pass; `idle` have not, though a defect of theirs
    was put in; nothing could be put in for `untried`.
    """
    declared = dict.fromkeys(kill["kills"] for kill in kills)
    tried = {kill["kills"] for kill in kills if kill["fate"] == "KILLED"}
    proven = {kill["kills"] for kill in kills if kill["fate"] == "KILLED" and "without" not in kill}
    return {
        "fates": dict(sorted(Counter(kill["fate"] for kill in kills).items())),
        "proven": len(proven),
        "idle": [id for id in declared if id in tried - proven],
        "untried": [id for id in declared if id not in tried],
    }


def red(kills: Kills) -> bool:
    """Whether a defect went unnoticed that should not, or the suite broke down on one."""
    return any(kill["fate"] in RED for kill in kills)


def noticed(kills: Kills) -> dict[str, list[str]]:
    """The kill matrix by rows: the mutants that each requirement noticed."""
    rows: dict[str, list[str]] = {}
    for kill in kills:
        for id in kill.get("by", ()):
            rows.setdefault(id, []).append(kill["mutant"])
    return rows


def lines(adapter: Mapping[str, Any], verbose: bool = False) -> Iterator[str]:
    """Requirements against mutants, family by family; `verbose` names requirements, and why mutants prove nothing."""
    kills, told = adapter["mutants"], adapter["summary"]["mutants"]
    families = list(dict.fromkeys(kill["kills"].partition("/")[0] for kill in kills))
    yield f"{'mutants':<14}{'killed':>7}" + "".join(f"{fate.lower():>{width}}" for fate, width in COLUMNS.items())
    for family in families:
        mine = Counter(kill["fate"] for kill in kills if kill["kills"].startswith(f"{family}/"))
        cells = ((mine[fate], width) for fate, width in COLUMNS.items())
        killed = f"{mine['KILLED']}/{mine.total()}"
        yield f"{family:<14}{killed:>7}" + "".join(f"{count or '-':>{width}}" for count, width in cells)
    for kill in kills:
        if kill["fate"] in RED or (verbose and "cause" in kill):
            yield f"{kill['fate']} {kill['mutant']}: {kill['cause']}"
    if verbose:
        rows = noticed(kills)
        own = Counter(kill["kills"] for kill in kills)
        for id in own:
            yield f"  {id}: noticed {len(rows.get(id, ()))}, declared for {own[id]}"
    yield f"requirements that saw what the rest of their family let pass: {told['proven']}"
    for fate, why in (("idle", "noticed nothing alone"), ("untried", "no mutant of theirs could be put in")):
        if told[fate]:
            yield f"{why}: {', '.join(told[fate])}"
