"""Findings about relations: the first wrong cell by name, both relations drawn. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding

if TYPE_CHECKING:
    from torch import Tensor

    from ...influence import Seen


def seen_as(relation: Tensor, seen: Seen, case: str = "") -> Iterator[Finding]:
    """A finding unless what was seen of a relation is that relation."""
    yield from equal(seen.at, seen.got, seen.wanted(relation), seen.queries, seen.keys, case)


def equal(
    at: str, got: Tensor, want: Tensor, queries: list[int] | None = None, keys: list[int] | None = None, case: str = ""
) -> Iterator[Finding]:
    """A finding unless both relations are equal, bool `query key`; rows and columns are some positions, or all."""
    from ...drawing import Drawing

    if got.shape != want.shape:
        yield Finding("relation", at, got=f"{list(got.shape)} cells", want=f"{list(want.shape)} cells", case=case)
        return
    wrong = (got != want).nonzero().tolist()
    if not wrong:
        return
    every = [list(range(length)) for length in got.shape]
    drawing = Drawing(want, got, queries or every[0], keys or every[1])
    row, column = wrong[0]
    sees = "attends" if got[row, column] else "does not attend"
    yield Finding(
        "relation",
        at,
        got=f"{len(wrong)} wrong {'cell' if len(wrong) == 1 else 'cells'}, "
        f"first: query {drawing.queries[row]} {sees} to key {drawing.keys[column]}",
        want="the layout's relation",
        case=case,
        detail=drawing.text(),
        picture=drawing.svg(f"{at}: who attends to whom"),
    )


def shown(relation: Tensor, every: Iterable[Seen]) -> list[dict[str, Any]]:
    """Who may attend to whom and who was seen to, as a fact; places that show the same are told together.

    Of a long stream, queries and keys are the positions that were tried, 64 or a few more.
    """
    from ...bands import told

    found: list[dict[str, Any]] = []
    for seen in every:
        rows = [row for row, query in enumerate(seen.queries) if query in seen.keys]
        sides = {"want": seen.wanted(relation), "got": seen.got}
        fact = {
            "positions": _positions(seen.keys),
            **{side: told(cells[rows].tolist()) for side, cells in sides.items()},
        }
        same = next((other for other in found if fact.items() <= other.items()), None)
        if same is None:
            found.append({"at": [seen.at], **fact})
        else:
            same["at"].append(seen.at)
    return found


def _positions(keys: list[int]) -> str:
    """`0-41`, or those of a long stream that were tried: `0-3 17 18 255`."""
    from ...bands import Band, runs_of

    tried = set(keys)
    return str(Band(1, tuple(runs_of(place in tried for place in range(max(keys) + 1))))).partition(": ")[2]
