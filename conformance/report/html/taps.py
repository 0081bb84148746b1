"""Error per tap along the depth of the model: how far each lies from what it should be, beside its budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Any

WIDE, HIGH = 960, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 24, 34
"""Of the plot and its margins, in its own units."""

LANE = 14
"""Room below the axis for what is equal bit for bit, which no logarithm shows."""

LEAST, MOST = 1e-16, 1e4
"""What the scale shows at most; what lies beyond it is drawn at its edge."""

LETTER = 6.2
"""How wide a letter of a label is."""


@dataclass(frozen=True, slots=True)
class Point:
    """A tap that lies outside its budget; `error` is None where it is no number at all."""

    at: str
    error: float | None
    budget: float | None
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Plot:
    """Paths and places in a picture of `WIDE` by `HIGH`, and the figures that are told in words beside it."""

    layout: str
    count: int
    equal: int
    good: str
    budget: str
    wrong: list[Point]
    declared: bool
    decades: list[tuple[float, int]]
    parts: list[tuple[float, float, str]]
    zero: float
    worst: tuple[str, float, float] | None
    wide: int = WIDE
    high: int = HIGH
    left: int = LEFT
    right: int = WIDE - RIGHT
    top: int = TOP
    bottom: int = HIGH - BOTTOM


def plot(layout: str, taps: Sequence[Mapping[str, Any]], declared: Set[str] = frozenset()) -> Plot:
    """The plot of one layout; `declared` are taps that may lie outside their budget."""
    figures = [value for tap in taps for value in (tap["error"], tap["budget"]) if value is not None]
    positive = [min(max(value, LEAST), MOST) for value in figures if value > 0]
    low = math.floor(math.log10(min(positive, default=1e-8)))
    high = max(math.ceil(math.log10(max(positive, default=1e-6))), low + 1)
    step = (WIDE - LEFT - RIGHT) / max(len(taps), 1)
    zero = HIGH - BOTTOM + LANE

    def x(number: int) -> float:
        return round(LEFT + (number + 0.5) * step, 1)

    def y(value: float | None) -> float:
        if value is None or value > MOST:
            return TOP
        if value <= 0:
            return zero
        share = (math.log10(max(value, LEAST)) - low) / (high - low)
        return round(HIGH - BOTTOM - share * (HIGH - BOTTOM - TOP), 1)

    points = [Point(tap["at"], tap["error"], tap["budget"], x(n), y(tap["error"])) for n, tap in enumerate(taps)]
    wrong = [point for point in points if not _within(point)]
    inside = [point for point in points if _within(point) and point.error and point.budget]
    worst = max(inside, key=lambda point: (point.error or 0) / (point.budget or 1), default=None)
    return Plot(
        layout=layout,
        count=len(points),
        equal=sum(point.error == 0 for point in points),
        good="".join(f"M{point.x:g} {point.y:g}h0" for point in points if _within(point)),
        budget=_steps([(point.x, y(point.budget)) for point in points if point.budget], step),
        wrong=wrong,
        declared=declared >= {point.at for point in wrong},
        decades=[(y(10.0**power), power) for power in range(low, high + 1)],
        parts=list(_parts(taps, step)),
        zero=zero,
        worst=(worst.at, worst.error or 0.0, worst.budget or 0.0) if worst else None,
    )


def _within(point: Point) -> bool:
    return point.error is not None and (point.budget is None or point.error <= point.budget)


def _steps(points: Sequence[tuple[float, float]], step: float) -> str:
    """A short level for every budget, joined to the next where there is one."""
    path, behind = "", -math.inf
    for x, y in points:
        start = x - step / 2
        path += f"{'L' if abs(start - behind) < step / 2 else 'M'}{start:.1f} {y:g}H{x + step / 2:.1f}"
        behind = x + step / 2
    return path


def _parts(taps: Sequence[Mapping[str, Any]], step: float) -> Iterator[tuple[float, float, str]]:
    """Where each part of the model begins and ends, with its name where there is room for it."""
    start = 0
    for part, each in groupby(taps, key=lambda tap: _part(tap["at"])):
        count = len([*each])
        room = count * step > len(part) * LETTER
        yield round(LEFT + start * step, 1), round(LEFT + (start + count) * step, 1), part if room else ""
        start += count


def _part(name: str) -> str:
    """`blocks.0` of what lies in a layer, else the outermost component."""
    steps = name.split(".")
    return ".".join(steps[:2]) if len(steps) > 1 and steps[1].isdigit() else steps[0]
