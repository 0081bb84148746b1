"""Paired timing: the ratio of two calls, measured in interleaved pairs under a sequential rule.

Independent medians raise false alarms on a shared host; a pair shares its noise. Pairs alternate their
order (ABBA), and the verdict is drawn from a distribution-free interval of the median ratio as soon as it
is clear. What is timed is the processor's time: on busy cores the clock on the wall mostly counts others.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter, process_time
from typing import Any

STAGES = (7, 25, 50, 100)
"""Numbers of pairs after which a verdict may be drawn; after the last it must be. The first is for clear cases."""

SLACK = math.log(1.075 / 1.03)
"""From the second stage on a ratio is over the ceiling when the interval's lower end lies at most this far below it."""

WARM_UP = 1
"""Calls of either side before anything is timed."""

Z = 2.326
"""Two-sided 98 % interval."""

ALONE = 0.85
"""Share of a core that a process has while nobody else wants it, at least."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of two parameters of glibc's `mallopt`."""

FINE = 1e-6
"""Seconds; a clock that ticks more slowly times nothing here."""

clock = process_time if time.get_clock_info("process_time").resolution <= FINE else perf_counter
"""What is read before and after a call, in seconds."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median ratio of one call over another, with a 98 % interval, from `pairs` pairs.

    `seconds` are the medians of both, the subject first; `share` is how much of a core the process had meanwhile.
    """

    median: float
    low: float
    high: float
    pairs: int
    over: bool
    seconds: tuple[float, float] = (math.nan, math.nan)
    share: float = 1.0


Call = Callable[[], object]
Seconds = tuple[float, float]
"""What subject and reference of one pair took."""
Measure = Callable[[Call, Call, int], list[Seconds]]
"""`measure(subject, reference, count)`: so many pairs."""


def settled(subject: Call, reference: Call, ceiling: float, first: Measure | None = None) -> Ratio:
    """`paired_ratio`, and once more if that is over.

    One in many measurements falls into a bad moment of the machine; two in a row do not.
    """
    found = paired_ratio(subject, reference, ceiling, first)
    return paired_ratio(subject, reference, ceiling) if found.over else found


def paired_ratio(subject: Call, reference: Call, ceiling: float, first: Measure | None = None) -> Ratio:
    """Time `subject` against `reference` until it is clear whether the ratio lies under `ceiling`.

    `first` measures the first stage, for instance by way of pytest-benchmark; by default all is timed directly.
    """
    with quiet():
        for _ in range(WARM_UP):
            subject(), reference()
        timed: list[Seconds] = []
        wall, busy = perf_counter(), process_time()
        for stage in STAGES:
            measure = first if first is not None and not timed else pairs
            timed += measure(subject, reference, stage - len(timed))
            found = judge([math.log(one / other) for one, other in timed], ceiling)
            if found is not None:
                share = (process_time() - busy) / (perf_counter() - wall)
                one, other = (statistics.median(side) for side in zip(*timed, strict=True))
                return replace(found, seconds=(one, other), share=share)
    raise AssertionError("the last stage decides")


def full(subject: Call, reference: Call) -> Ratio:
    """The ratio of as many pairs as there may be, whatever it is."""
    return paired_ratio(subject, reference, math.inf, first=lambda one, other, _: pairs(one, other, STAGES[-1]))


def pairs(subject: Call, reference: Call, count: int) -> list[Seconds]:
    """Pairs timed directly, every other one with the reference first."""
    return [_pair(subject, reference, swapped=index % 2 == 1) for index in range(count)]


def recorded(benchmark: Any) -> Measure:
    """Pairs by way of pytest-benchmark's fixture: the subject in its data, the reference in its `extra_info`."""

    def measure(subject: Call, reference: Call, count: int) -> list[Seconds]:
        seconds: list[float] = []

        def time_reference() -> None:
            start = clock()
            reference()
            seconds.append(clock() - start)

        def before() -> None:
            if len(seconds) % 2 == 0:
                time_reference()

        def after() -> None:
            # In every other pair nothing was timed before the subject.
            if len(seconds) < len(benchmark.stats.stats.data):
                time_reference()

        benchmark.pedantic(subject, setup=before, teardown=after, rounds=count)
        benchmark.extra_info["reference_seconds"] = seconds
        return list(zip(benchmark.stats.stats.data, seconds, strict=True))

    return measure


def judge(logs: Sequence[float], ceiling: float) -> Ratio | None:
    """The verdict on log ratios so far, or None while another stage can still decide."""
    median = statistics.median(logs)
    low, high = _interval(sorted(logs))
    limit = math.log(ceiling)
    if high < limit:
        over = False
    elif low > limit or (len(logs) >= STAGES[1] and low > limit - SLACK and median > limit):
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


def _pair(subject: Call, reference: Call, *, swapped: bool) -> Seconds:
    first, second = (reference, subject) if swapped else (subject, reference)
    start = clock()
    first()
    middle = clock()
    second()
    end = clock()
    one, other = middle - start, end - middle
    return (other, one) if swapped else (one, other)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """One thread, nothing collected and no memory handed back: the largest noise that a process controls."""
    import torch

    threads, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    keep_memory()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()


def keep_memory() -> None:
    """Bring glibc's malloc to the state that it arrives at by itself in a process that has freed large blocks.

    Until then some processes hand memory back after every forward and fault it in again, and some do not, by how their
    heap happens to lie: the same bridge took 1.15 of its model's time in one and 1.31 in the next.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 64 << 20)
