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

import torch

STAGES = (25, 50, 100)
"""Numbers of pairs after which a verdict may be drawn; after the last it must be."""

MARGIN = 0.03
"""A ratio counts as over the ceiling early only when the interval's lower end lies this far above it."""

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


def paired_ratio(subject: Callable[[], object], reference: Callable[[], object], ceiling: float) -> Ratio:
    """Time `subject` against `reference` until it is clear whether the ratio lies under `ceiling`."""
    with _quiet():
        for _ in range(5):
            subject(), reference()
        logs: list[float] = []
        while True:
            logs.append(_pair(subject, reference, swapped=len(logs) % 2 == 1))
            if len(logs) in STAGES and (ratio := judge(logs, ceiling)) is not None:
                return ratio


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
