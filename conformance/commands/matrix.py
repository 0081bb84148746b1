"""One table of runs under several versions: for each adapter, what every version changes over the first run.

Give the reports of `pytest --adapter ... --complete --conform-report NAME.json`; the logits of a run are looked for
beside its report, in NAME.safetensors, where `conformance logits` put them. A report that is not there is a run that
never came to its end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report import pace, trees
from ..report.worse import COUNTED

if TYPE_CHECKING:
    from ..report.changes import Changes, Told

HEAD = ("adapter", "versions", "verdict", "hook tree", "logits", "operators", "forward")
VERSIONS = ("transformers", "transformer-lens")
"""Distributions that tell the rows apart."""

NOTHING = "-"
"""The cell of what was not judged, or not recorded."""

MOST = 10
"""Lines told of one kind of change."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs."""
    parser.add_argument(
        "reports", nargs="+", type=Path, metavar="REPORT", help="reports; all are held against the first"
    )


def run(given: argparse.Namespace) -> int:
    """Print the table, then what changed; 1 where a run is red, not complete or without a report."""
    base, *others = [Leg.read(path) for path in given.reports]
    if base.document is None:
        from . import CommandError

        raise CommandError(f"{base.path}: no report, and all are held against the first; run that one again")
    legs = [base, *others]
    rows = [HEAD, *(row for name in base.adapters for row in _rows(name, base, legs))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for line in _told(base, others):
        print(line)
    return 1 if any(leg.red for leg in legs) else 0


@dataclass(frozen=True)
class Leg:
    """One run: its report, if it came to one."""

    path: Path
    document: dict[str, Any] | None

    @classmethod
    def read(cls, path: Path) -> Leg:
        """The run behind a path; CommandError where a file is there that is no report."""
        from . import CommandError

        if not path.exists():
            return cls(path, None)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            _ = document["verdicts"]["adapters"], document["verdicts"]["versions"], document["measurements"]["cases"]
        except (OSError, ValueError, KeyError, TypeError):
            raise CommandError(f"{path}: is no report; name one that --conform-report wrote") from None
        return cls(path, document)

    @property
    def adapters(self) -> dict[str, Mapping[str, Any]]:
        """What was found, by adapter."""
        found = [] if self.document is None else self.document["verdicts"]["adapters"]
        return {adapter["adapter"]: adapter for adapter in found}

    @property
    def versions(self) -> str:
        """`transformers 5.9.0, transformer-lens 4.3.0`; the name of the report of a run without one."""
        if self.document is None:
            return self.path.stem
        return ", ".join(f"{name} {self.document['verdicts']['versions'][name]}" for name in VERSIONS)

    @property
    def red(self) -> bool:
        """Whether anything in it is not as declared, or not known."""
        if self.document is None or self.document["verdicts"]["state"] != "COMPLETE":
            return True
        return any(adapter["summary"]["red"] for adapter in self.adapters.values())

    def tree(self, name: str) -> dict[str, list[str]]:
        """The hook tree by layout, as the snapshot shows it, where it was looked at."""
        return trees.trees(self.adapters[name])

    def ratio(self, name: str) -> float | None:
        """The time of a forward over the reference's, where it was measured."""
        assert self.document is not None
        found = pace.ratios(self.document, self.adapters[name]).get("throughput/ratio")
        return None if found is None else found.median

    @cached_property
    def logits(self) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Logits by adapter and layout, and what is told of them; empty where none were recorded."""
        from safetensors import safe_open

        path = self.path.with_suffix(".safetensors")
        if not path.exists():
            return {}, {}
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _rows(name: str, base: Leg, legs: Sequence[Leg]) -> Iterator[tuple[str, ...]]:
    for leg in legs:
        if name not in leg.adapters:
            yield (name, leg.versions, "no report" if leg.document is None else "not judged", *[NOTHING] * 4)
            continue
        cells = _first(name, base) if leg is base else _against(name, base, leg)
        yield (name, leg.versions, _verdict(leg, name), *cells)


def _verdict(leg: Leg, name: str) -> str:
    """`green` is a run in which everything that is not met is declared; a verdict on the adapter is stricter."""
    assert leg.document is not None
    summary, state = leg.adapters[name]["summary"], leg.document["verdicts"]["state"]
    told = "RED" if summary["red"] else "green" if state == "COMPLETE" else state
    must = summary["levels"]["MUST"]
    return f"{told} {must['met']}/{must['of']}"


def _first(name: str, base: Leg) -> tuple[str, ...]:
    trees, ratio = base.tree(name).values(), base.ratio(name)
    logits, _ = base.logits
    recorded = sum(key.partition("/")[0] == name for key in logits)
    return (
        f"{len(set().union(*trees))} lines" if trees else NOTHING,
        f"{recorded} layouts" if recorded else NOTHING,
        "counted" if _counted(name, base) else NOTHING,
        NOTHING if ratio is None else f"x{ratio:.3f}",
    )


def _against(name: str, base: Leg, leg: Leg) -> tuple[str, ...]:
    counts = [count for count in _changes(name, base, leg).counts if count.requirement in COUNTED]
    ratio, before = leg.ratio(name), base.ratio(name)
    change = "" if ratio is None or before is None else f" ({ratio / before - 1:+.1%})"
    return (
        _tree_cell(name, base, leg),
        _logits_cell(name, base, leg),
        (f"{len(counts)} changed" if counts else "same") if _counted(name, base, leg) else NOTHING,
        NOTHING if ratio is None else f"x{ratio:.3f}{change}",
    )


def _changes(name: str, base: Leg, leg: Leg) -> Changes:
    from ..report.changes import compare
    from ..report.reading import alone

    assert base.document is not None
    assert leg.document is not None
    return compare(alone(base.document, name), alone(leg.document, name))


def _counted(name: str, *legs: Leg) -> bool:
    """Whether all of them counted operators."""
    return all(
        any(result["requirement"] == COUNTED[0] and result.get("facts") for result in adapter["results"])
        for adapter in (leg.adapters[name] for leg in legs)
    )


def _tree_cell(name: str, base: Leg, leg: Leg) -> str:
    if not base.tree(name):
        return NOTHING
    if base.tree(name).keys() != leg.tree(name).keys():
        return "not known"
    lines = [line for diff in trees.changed(base.adapters[name], leg.adapters[name]).values() for line in diff]
    return (
        f"{sum(line[0] == '-' for line in lines)} gone, {sum(line[0] == '+' for line in lines)} new"
        if lines
        else "same"
    )


def _logits_cell(name: str, base: Leg, leg: Leg) -> str:
    """The largest difference over all layouts, of the same weights."""
    import numpy

    (want, told), (got, other) = base.logits, leg.logits
    mine = {key for key in want if key.partition("/")[0] == name}
    if not mine or name not in other:
        return NOTHING
    if told[name] != other[name]:
        return "other weights"
    if mine - got.keys():
        return f"{len(mine - got.keys())} of {len(mine)} raised"
    if any(want[key].shape != got[key].shape for key in mine):
        return "other shapes"
    # What is no number in both is the same, as where a bridge has weights that nothing filled.
    if all(numpy.array_equal(want[key], got[key], equal_nan=True) for key in mine):
        return "same bits"
    if any((numpy.isnan(want[key]) != numpy.isnan(got[key])).any() for key in mine):
        return "other NaNs"
    return f"{max(float(numpy.nanmax(numpy.abs(want[key] - got[key]))) for key in mine):.1e}"


def _told(base: Leg, others: Sequence[Leg]) -> Iterator[str]:
    """What the table counts, in words: findings that the first run did not have, and lines of hook trees."""
    for leg in others:
        if leg.document is None:
            yield f"\n{leg.versions}: no report; the run never came to its end, or the versions do not go together"
            continue
        for name in (name for name in base.adapters if name in leg.adapters):
            changes = _changes(name, base, leg)
            lines = [f"  {line}" for line in (*_findings(changes.new, "new"), *_findings(changes.declared, "declared"))]
            for layout, diff in trees.changed(base.adapters[name], leg.adapters[name]).items():
                lines += [f"  hook tree ({layout}):"] if diff else []
                lines += [f"    {line}" for line in diff[:MOST]]
            lines += [
                f"  {each.requirement} ({each.layout}): {each.name} {each.base} -> {each.head}"
                for each in [count for count in changes.counts if count.requirement in COUNTED][:MOST]
            ]
            if lines:
                yield "\n".join((f"\n{name} under {leg.versions}", *lines))


def _findings(found: Sequence[Told], word: str) -> Iterator[str]:
    """One line per requirement and code: where it was found first, and at how many places besides."""
    groups: dict[tuple[str, str, str], list[Told]] = {}
    for told in found:
        groups.setdefault((told.requirement, told.code, told.because), []).append(told)
    for (requirement, code, because), group in groups.items():
        first = group[0]
        more = f", and {len(group) - 1} more" if len(group) > 1 else ""
        why = f"; {because}" if because else ""
        yield f"{word}: {requirement} {code}: {first.at}: got {first.got}, want {first.want}{more}{why}"
