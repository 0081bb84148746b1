"""Bands: a relation in few words, row by row the runs of keys that are on, equal neighbours told once.

`3: 0-2 21-23` are three rows, each of which attends to keys 0 to 2 and 21 to 23; `1:` is a row that attends to none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

BAND = re.compile(r"[0-9]{1,6}:( [0-9]{1,6}(-[0-9]{1,6})?)*")
"""One band as text; the schema of the report has the same."""


@dataclass(frozen=True, slots=True)
class Band:
    """`rows` equal rows of a relation, and the runs of keys (first, last) that are on in each."""

    rows: int
    runs: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        told = (f" {first}" if first == last else f" {first}-{last}" for first, last in self.runs)
        return f"{self.rows}:{''.join(told)}"


def told(relation: Iterable[Sequence[bool]]) -> list[str]:
    """Bands of a relation, bool `query key`."""
    return [str(Band(len([*equal]), runs)) for runs, equal in groupby(tuple(runs_of(row)) for row in relation)]


def read(lines: Iterable[object]) -> tuple[Band, ...]:
    """What `told` has written; ValueError for anything else."""
    return tuple(map(_band, lines))


def runs_of(row: Iterable[bool]) -> Iterator[tuple[int, int]]:
    """First and last of every run that is on."""
    for on, run in groupby(enumerate(row), key=lambda entry: bool(entry[1])):
        places = [place for place, _ in run]
        if on:
            yield places[0], places[-1]


def _band(line: object) -> Band:
    if not isinstance(line, str) or BAND.fullmatch(line) is None:
        raise ValueError(f"{line!r}: is no band such as '3: 0-2 21-23'")
    rows, _, runs = line.partition(":")
    ends = (run.partition("-") for run in runs.split())
    return Band(int(rows), tuple((int(first), int(last or first)) for first, _, last in ends))
