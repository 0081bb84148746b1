"""Drawings of two relations, what is wanted beside what is there: as text for a terminal, as SVG for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MOST_TEXT, MOST_CELLS = 36, 64
"""Rows and columns shown: two of them fit a terminal of 80 columns, or a page."""

GLYPHS = {"on": "#", "off": ".", "more": "+", "less": "-"}
"""Allowed, not allowed, too much, missing."""

CELL, MARGIN, HEAD, GAP = 8, 12, 44, 16
"""Of the picture, in its own units; `HEAD` is room for two lines of text."""

STYLE = (
    ".relation{font:12px sans-serif;shape-rendering:crispEdges}.relation .ground{fill:#fff}.relation text{fill:#222}"
    ".relation .off{fill:#eee}.relation .on{fill:#789}.relation .more{fill:url(#more)}.relation .less{fill:url(#less)}"
    "#more rect{fill:#d32}#more path{stroke:#fff}#less rect{fill:#e90}#less path{fill:#eee}"
    "@media(prefers-color-scheme:dark){.relation .ground{fill:#181b1f}.relation text{fill:#ddd}"
    ".relation .off{fill:#2a2f35}.relation .on{fill:#9ab}#more rect{fill:#f65}#more path{stroke:#181b1f}"
    "#less rect{fill:#fb3}#less path{fill:#2a2f35}}"
)

MARKS = {"more": "M2 2l4 4m0-4l-4 4", "less": "M2 2h4v4h-4z"}
"""What a wrong cell has beside its colour, which not everyone sees: a cross if it is too much, else a hole."""

PATTERN = (
    '<pattern id="{}" width="8" height="8" patternUnits="userSpaceOnUse">'
    '<rect width="8" height="8"/><path d="{}"/></pattern>'
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Two relations of one shape, bool `query key`, and the positions that their rows and columns stand for."""

    want: Tensor
    got: Tensor
    queries: Sequence[int]
    keys: Sequence[int]

    def text(self) -> str:
        """Both side by side: `#` allowed, `.` not, `+` too much, `-` missing; of a large one a window."""
        shown = self.window(MOST_TEXT)
        wide = max(shown.want.shape[1], len("want"))
        rows = zip(shown._cells(shown.want), shown._cells(shown.got), strict=True)
        drawn = ((*("".join(GLYPHS[cell] for cell in row) for row in pair),) for pair in rows)
        lines = [f"{left:<{wide}}   {right}" for left, right in (("want", "got"), *drawn)]
        return "\n".join([*([shown.place] if shown is not self else []), *lines])

    def svg(self, title: str) -> str:
        """The same as an image of its own, for light and dark pages; what stands on the ground is one `rect` a run."""
        shown = self.window(MOST_CELLS)
        high, wide = shown.want.shape
        step = wide * CELL + GAP
        # A small relation still has a title to show.
        size = (max(step + wide * CELL + 2 * MARGIN, 400), high * CELL + HEAD + MARGIN)
        parts = [
            '<svg xmlns="http://www.w3.org/2000/svg" class="relation" role="img" '
            f'viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}">',
            f"<title>{_escaped(title)}</title><style>{STYLE}</style>",
            f"<defs>{''.join(PATTERN.format(*mark) for mark in MARKS.items())}</defs>",
            f'<rect class="ground" width="{size[0]}" height="{size[1]}"/>',
            f'<text x="{MARGIN}" y="18">{_escaped(title)}; {shown.place}</text>',
        ]
        for number, (name, relation) in enumerate((("want", shown.want), ("got", shown.got))):
            left = MARGIN + number * step
            parts.append(f'<text x="{left}" y="{HEAD - 8}">{name}</text>')
            parts.append(f'<g class="{name}" transform="translate({left} {HEAD})">')
            parts.append(f'<rect class="off" width="{wide * CELL}" height="{high * CELL}"/>')
            parts += shown._runs(relation)
            parts.append("</g>")
        return "".join([*parts, "</svg>"])

    @property
    def place(self) -> str:
        """Which part of the relation this is."""
        return f"queries {self.queries[0]} to {self.queries[-1]}, keys {self.keys[0]} to {self.keys[-1]}"

    def window(self, most: int) -> Drawing:
        """At most `most` rows and columns around the first wrong cell."""
        if max(self.want.shape) <= most:
            return self
        query, key = (self.want != self.got).nonzero()[0].tolist()
        rows, columns = (_around(at, of, most) for at, of in zip((query, key), self.want.shape, strict=True))
        return Drawing(self.want[rows, columns], self.got[rows, columns], self.queries[rows], self.keys[columns])

    def _cells(self, relation: Tensor) -> Iterator[list[str]]:
        """Row by row what stands in each cell; what is wanted is right by itself."""
        names = {(True, True): "on", (False, False): "off", (True, False): "more", (False, True): "less"}
        for row, wanted in zip(relation.tolist(), self.want.tolist(), strict=True):
            yield [names[cell] for cell in zip(row, wanted, strict=True)]

    def _runs(self, relation: Tensor) -> Iterator[str]:
        for number, row in enumerate(self._cells(relation)):
            start = 0
            for kind, run in groupby(row):
                wide = len(list(run))
                at = f'x="{start * CELL}" y="{number * CELL}" width="{wide * CELL}" height="{CELL}"'
                if kind != "off":
                    yield f'<rect class="{kind}" {at}/>'
                start += wide


def _around(at: int, of: int, most: int) -> slice:
    start = max(0, min(at - most // 2, of - most))
    return slice(start, start + most)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
