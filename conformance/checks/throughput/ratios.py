"""Ratios: time of the bridge over the model's own forward, in pairs, where arithmetic dominates. PYTEST_DONT_REWRITE

A forward is timed in every run; all else takes longer than whoever is at work on an adapter likes to wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, Occasion, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...subject import Boot
    from ...timing import Measure

NEEDS = ("parity/logits",)


@requirement("throughput/ratio", level=MUST, needs=NEEDS)
def ratio(boot: Boot, evidence: Evidence, stopwatch: Measure | None) -> Iterator[Finding]:
    """Where arithmetic dominates, the bridge's forward MUST take no longer than the spec's ceiling times the model's.

    A hooked model that is twice as slow is left for home-made hooks, which nobody checks.
    """
    yield from _judged(boot, evidence, stopwatch, "forward")


@requirement("throughput/hook-ratio", level=MUST, needs=NEEDS, run=Occasion.COMPLETE)
def hook_ratio(boot: Boot, evidence: Evidence, stopwatch: Measure | None) -> Iterator[Finding]:
    """Where arithmetic dominates, a forward with one hook MUST take no longer than the spec's ceiling times the
    model's own.

    Steering and ablation hang one hook; who pays for all of them pays for what he did not ask for.
    """
    yield from _judged(boot, evidence, stopwatch, "hook")


@requirement("throughput/cache-ratio", level=MUST, needs=NEEDS, run=Occasion.COMPLETE)
def cache_ratio(boot: Boot, evidence: Evidence, stopwatch: Measure | None) -> Iterator[Finding]:
    """Where arithmetic dominates, a full `run_with_cache` MUST take no longer than the spec's ceiling times the model's
    forward.

    It is the first call of every notebook; every entry that is copied once more is time and memory again.
    """
    yield from _judged(boot, evidence, stopwatch, "cache")


@requirement("throughput/filter-ratio", level=MUST, needs=NEEDS, run=Occasion.COMPLETE)
def filter_ratio(boot: Boot, evidence: Evidence, stopwatch: Measure | None) -> Iterator[Finding]:
    """Where arithmetic dominates, `run_with_cache` of one name MUST take no longer than the spec's ceiling times the
    model's forward.

    A filter that keeps everything and throws most of it away saves nothing of what it is there to save.
    """
    yield from _judged(boot, evidence, stopwatch, "filter")


@requirement("throughput/backward-ratio", level=MUST, needs=NEEDS, run=Occasion.COMPLETE)
def backward_ratio(boot: Boot, evidence: Evidence, stopwatch: Measure | None) -> Iterator[Finding]:
    """Where arithmetic dominates, a forward with its backward MUST take no longer than the spec's ceiling times the
    model's.

    Attribution takes one gradient per example, and a graph that is longer than the model's is walked each time.
    """
    yield from _judged(boot, evidence, stopwatch, "backward")


@requirement("throughput/denoising-ratio", level=MUST, needs=(*NEEDS, "denoising/sampler"), run=Occasion.COMPLETE)
def denoising_ratio(boot: Boot, evidence: Evidence, stopwatch: Measure | None) -> Iterator[Finding]:
    """Where arithmetic dominates, a denoising step MUST take no longer than the spec's ceiling times that of the same
    sampler on the model itself.

    A text is hundreds of steps; what is lost in one is lost in each of them.
    """
    if boot.spec.sampler is None:
        evidence.refused = True
        return
    yield from _judged(boot, evidence, stopwatch, "denoising")


def _judged(boot: Boot, evidence: Evidence, stopwatch: Measure | None, kind: str) -> Iterator[Finding]:
    """A finding if a workload takes longer than its ceiling; figures go to the measurements, which are not hashed."""
    from ... import footprint
    from ...timing import settled

    workload, ceiling = boot.bench_workloads[kind], boot.spec.ceilings[kind]
    # The first call of a kind is no measure of time anyway.
    peaks = {side: footprint.of_call(getattr(workload, side)).peak for side in ("subject", "reference")}
    found = settled(workload.subject, workload.reference, ceiling, first=stopwatch)
    seconds = dict(zip(("subject", "reference"), found.seconds, strict=True))
    evidence.measurements["ratio"] = {
        "median": round(found.median, 4),
        "interval_98": [round(found.low, 4), round(found.high, 4)],
        "ceiling": ceiling,
        "pairs": found.pairs,
        "tokens_per_second": {side: round(workload.tokens / taken) for side, taken in seconds.items()},
        "peak_bytes": peaks,
    }
    if found.over:
        yield Finding("too-slow", kind, got="a ratio over the ceiling (figures under measurements)", want=f"{ceiling}")
