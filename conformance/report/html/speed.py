"""Speed: ratios of time with their intervals, and what was counted exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WORKLOADS = {
    "throughput/ratio": "forward",
    "throughput/hook-ratio": "forward with one hook",
    "throughput/cache-ratio": "run_with_cache",
    "throughput/filter-ratio": "run_with_cache of one name",
    "throughput/backward-ratio": "forward and backward",
    "throughput/denoising-ratio": "denoising step",
}
"""What is timed, by the requirement that asks for it."""

COUNTED = ("throughput/operators", "throughput/flops", "throughput/python-calls", "throughput/held")
"""Requirements whose facts are exact counts of both sides."""

WIDE = 260
"""Of the picture of a row, in its own units."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the bridge over the model's, and where its figures lie in the picture of a row."""

    id: str
    what: str
    median: float
    low: float
    high: float
    pairs: int
    ceiling: float | None
    tokens: Mapping[str, int]
    peaks: Mapping[str, int]
    at: Mapping[str, float]


def ratios(measured: Callable[[str], Mapping[str, Any]]) -> list[Ratio]:
    """Every workload that was timed, all on one scale."""
    found = {id: measured(id).get("ratio") for id in WORKLOADS}
    timed = {id: ratio for id, ratio in found.items() if ratio}
    figures = [v for r in timed.values() for v in (*r["interval_98"], r.get("ceiling")) if v is not None]
    least, most = min(figures, default=1.0), max(figures, default=1.0)
    least, most = min(least, 1.0) - 0.04, max(most, 1.0) + 0.04

    def x(value: float) -> float:
        return round(WIDE * (value - least) / (most - least), 1)

    return [
        Ratio(
            id=id,
            what=WORKLOADS[id],
            median=ratio["median"],
            low=(low := ratio["interval_98"][0]),
            high=(high := ratio["interval_98"][1]),
            pairs=ratio["pairs"],
            ceiling=(ceiling := ratio.get("ceiling")),
            tokens=ratio.get("tokens_per_second", {}),
            peaks=ratio.get("peak_bytes", {}),
            at={"one": x(1.0), "low": x(low), "high": x(high), "median": x(ratio["median"])}
            | ({} if ceiling is None else {"ceiling": x(ceiling)}),
        )
        for id, ratio in timed.items()
    ]


def counts(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, Any, Any]]:
    """Requirement, layout, what was counted, and the figures of the bridge and of the model, None where not taken."""
    return [row for result in results if result["requirement"] in COUNTED for row in _rows(result)]


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any, Any]]:
    requirement, _, name = result["requirement"].rpartition("/")
    for what, sides in result.get("facts", {}).items():
        if isinstance(sides, Mapping):
            figures = {side.partition(" ")[0]: value for side, value in sides.items()}
            kind = {"python-calls": f"Python calls, {what}", "held": f"peak bytes, {what}"}.get(name, what)
            yield f"{requirement}/{name}", result.get("layout", ""), kind, *map(figures.get, ("subject", "reference"))
