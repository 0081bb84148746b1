"""Paired timing: the ratio of two calls, measured in interleaved pairs under a sequential rule.

Independent medians raise false alarms on a shared host; a pair shares its noise. Pairs alternate their
order (ABBA), and the verdict is drawn from a distribution-free interval of the median ratio as soon as it
is clear.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

STAGES = (25, 50, 100)
"""Numbers of pairs after which a verdict may be drawn; after the last it must be."""

MARGIN = 0.03
"""A ratio counts as over the ceiling early only when the interval's lower end lies this far above it."""

WARM_UP = 5
"""Calls of either side before anything is timed."""

Z = 2.326
"""Two-sided 98 % interval."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median ratio of one call over another, with a 98 % interval, from `pairs` pairs."""

    median: float
    low: float
    high: float
    pairs: int
    over: bool


Call = Callable[[], object]
Measure = Callable[[Call, Call, int], list[float]]
"""`measure(subject, reference, count)`: log ratios of so many pairs."""


def paired_ratio(subject: Call, reference: Call, ceiling: float, first: Measure | None = None) -> Ratio:
    """Time `subject` against `reference` until it is clear whether the ratio lies under `ceiling`.

    `first` measures the first stage, for instance by way of pytest-benchmark; by default all is timed directly.
    """
    with _quiet():
        for _ in range(WARM_UP):
            subject(), reference()
        logs: list[float] = []
        for stage in STAGES:
            measure = first if first is not None and not logs else pairs
            logs += measure(subject, reference, stage - len(logs))
            if (ratio := judge(logs, ceiling)) is not None:
                return ratio
    raise AssertionError("the last stage decides")


def pairs(subject: Call, reference: Call, count: int) -> list[float]:
    """Log ratios of pairs timed directly, every other pair with the reference first."""
    return [_pair(subject, reference, swapped=index % 2 == 1) for index in range(count)]


def recorded(benchmark: Any) -> Measure:
    """Pairs by way of pytest-benchmark's fixture: the subject in its data, the reference in its `extra_info`."""

    def measure(subject: Call, reference: Call, count: int) -> list[float]:
        seconds: list[float] = []

        def time_reference() -> None:
            start = perf_counter()
            reference()
            seconds.append(perf_counter() - start)

        def before() -> None:
            if len(seconds) % 2 == 0:
                time_reference()

        def after() -> None:
            # In every other pair nothing was timed before the subject.
            if len(seconds) < len(benchmark.stats.stats.data):
                time_reference()

        benchmark.pedantic(subject, setup=before, teardown=after, rounds=count)
        benchmark.extra_info["reference_seconds"] = seconds
        return [math.log(a / b) for a, b in zip(benchmark.stats.stats.data, seconds, strict=True)]

    return measure


def judge(logs: Sequence[float], ceiling: float) -> Ratio | None:
    """The verdict on log ratios so far, or None while another stage can still decide."""
    median = statistics.median(logs)
    low, high = _interval(sorted(logs))
    limit = math.log(ceiling)
    if high < limit:
        over = False
    elif low > limit + MARGIN:
        over = True
    elif len(logs) >= STAGES[-1]:
        over = median > limit
    else:
        return None
    return Ratio(math.exp(median), math.exp(low), math.exp(high), len(logs), over)


def _interval(ordered: Sequence[float]) -> tuple[float, float]:
    """Order statistics that enclose the median with 98 % confidence."""
    reach = Z * math.sqrt(len(ordered)) / 2
    low = max(0, math.floor(len(ordered) / 2 - reach))
    high = min(len(ordered) - 1, math.ceil(len(ordered) / 2 + reach))
    return ordered[low], ordered[high]


def _pair(subject: Callable[[], object], reference: Callable[[], object], *, swapped: bool) -> float:
    first, second = (reference, subject) if swapped else (subject, reference)
    start = perf_counter()
    first()
    middle = perf_counter()
    second()
    end = perf_counter()
    log = math.log((middle - start) / (end - middle))
    return -log if swapped else log


@contextmanager
def _quiet() -> Iterator[None]:
    """One thread, no garbage collection: the two largest sources of noise that a process controls."""
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()
