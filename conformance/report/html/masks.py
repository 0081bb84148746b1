"""Mask relations as pictures: who may attend to whom beside who does, as paths of cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ...bands import Band, read

Cells = set[tuple[int, int]]

SIDE = 168
"""Of a picture, in its own units, which are pixels of a page that is not zoomed."""

MOST = 256
"""Rows and columns that are drawn."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One relation, in the layers that show it: paths of cells by kind, in units of one cell.

    `plain` are the cells that are as wanted, `more` those that attend and may not, `less_cells` may and do not.
    """

    layout: str
    at: tuple[str, ...]
    positions: str
    size: int
    want: str
    plain: str
    more: str
    more_cells: list[tuple[int, int]]
    less_cells: list[tuple[int, int]]
    wrong: int
    first: str

    @property
    def cell(self) -> float:
        """How large a cell is drawn."""
        return SIDE / max(self.size, 1)

    @property
    def ends(self) -> tuple[int, int]:
        """The first and the last position that are shown."""
        names = _positions(self.positions) or [0, self.size - 1]
        return names[0], names[-1]

    @property
    def through(self) -> int:
        """Positions of the stream as far as it is shown; more than are drawn where only some were tried."""
        return self.ends[1] + 1

    @property
    def crosses(self) -> str:
        """A cross in every cell that attends and may not."""
        return "".join(f"M{x + 0.15:g} {y + 0.15:g}l.7 .7M{x + 0.85:g} {y + 0.15:g}l-.7 .7" for y, x in self.more_cells)

    @property
    def rings(self) -> str:
        """A square in every cell that does not attend and may."""
        return "".join(f"M{x + 0.2:g} {y + 0.2:g}h.6v.6h-.6z" for y, x in self.less_cells)


def figures(results: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    """Every relation that was seen, layout by layout; what is no relation, or is too large, is not drawn."""
    for result in results:
        if result["requirement"] == "mask/relation":
            for fact in result.get("facts", {}).get("relations", ()):
                yield from _figure(result.get("layout", ""), fact)


def _figure(layout: str, fact: Mapping[str, Any]) -> Iterator[Figure]:
    try:
        want, got = read(fact["want"]), read(fact["got"])
    except ValueError:
        return
    size = sum(band.rows for band in want)
    widest = max((last for band in (*want, *got) for _, last in band.runs), default=-1)
    if max(size, sum(band.rows for band in got), widest + 1) > MOST:
        return
    wanted, seen = _cells(want), _cells(got)
    more, less = seen - wanted, wanted - seen
    yield Figure(
        layout=layout,
        at=tuple(fact["at"]),
        positions=fact["positions"],
        size=size,
        want=_bands(want),
        plain=_bands(want) if want == got else _path(wanted & seen),
        more=_path(more),
        more_cells=sorted(more),
        less_cells=sorted(less),
        wrong=len(more | less),
        first=_first(more, less, fact["positions"]),
    )


def _cells(bands: Sequence[Band]) -> Cells:
    starts = accumulate((band.rows for band in bands), initial=0)
    return {
        (row, column)
        for band, start in zip(bands, starts, strict=False)
        for row in range(start, start + band.rows)
        for first, last in band.runs
        for column in range(first, last + 1)
    }


def _bands(bands: Sequence[Band]) -> str:
    """One rectangle for every run of a band."""
    starts = accumulate((band.rows for band in bands), initial=0)
    return "".join(
        f"M{first} {start}h{last - first + 1}v{band.rows}h-{last - first + 1}z"
        for band, start in zip(bands, starts, strict=False)
        for first, last in band.runs
    )


def _path(cells: Cells) -> str:
    """One square for every cell."""
    return "".join(f"M{column} {row}h1v1h-1z" for row, column in sorted(cells))


def _first(more: Cells, less: Cells, positions: str) -> str:
    """The first wrong cell in words."""
    if not more | less:
        return ""
    row, column = min(more | less)
    names = _positions(positions)
    query, key = (names[place] if place < len(names) else place for place in (row, column))
    return f"query {query} {'attends' if (row, column) in more else 'does not attend'} to key {key}"


def _positions(text: str) -> list[int]:
    """The positions that `0-3 17` stands for."""
    try:
        (band,) = read([f"1: {text}"])
    except ValueError:
        return []
    return [place for first, last in band.runs if last - first <= MOST for place in range(first, last + 1)]
