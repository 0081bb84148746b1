"""How often timed requirements are wrong on this machine: `python ci/throughput_study.py [ADAPTER ...] [pairs=100]`.

For every use of a bridge at its bench size, pairs are measured as the family measures them, and the sequential rule is
replayed on them many times, in blocks drawn with replacement, which keep what neighbours in time share:

- as measured, under the spec's ceiling: how often the adapter as it is would be called slow;
- scaled to lie 10 % over the ceiling: how often that would be found;
- the model against a second copy of itself under a tolerance of 7.5 %, as it is (A/A) and with 10 % more: the rule.

A run of the family alarms when any use does. Then the family is judged, and timed. Targets: alarms in at most 1 of 500
runs of the family, 95 % found, 20 s per adapter.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence

import torch

from conformance import checkpoint, ledger, timing
from conformance.adapters import resolve
from conformance.judge import Judge
from conformance.offline import offline
from conformance.requirement import requirements
from conformance.subject import Boot

REPLAYS, BLOCK = 5000, 5
TOLERANCE = 1.075
SLOWER = math.log(1.10)
ADAPTERS = ("bd3lm", "bd3lm-reference", "gidd", "dream@repaired", "llada@repaired", "llada2_moe@repaired")


def main(names: Sequence[str], pairs: int) -> None:
    """Print the study of some adapters."""
    torch.set_num_threads(1)
    for spec in resolve(list(names) or list(ADAPTERS)):
        print(f"{spec}: {pairs} pairs for each use, {REPLAYS} replays; load {os.getloadavg()[0]:.1f}", flush=True)
        folder = checkpoint.materialise(checkpoint.fixture_folder(str(spec.fixture)), spec)
        boot = Boot(spec, folder, trusted=True)
        study(boot, pairs)
        judged(Boot(spec, folder, trusted=True))


def study(boot: Boot, pairs: int) -> None:
    """Alarms and detections of one adapter."""
    quiet = 1.0
    for kind, load in boot.bench_workloads.items():
        logs, ceiling = measured(load.subject, load.reference, pairs), math.log(boot.spec.ceilings[kind])
        median = statistics.median(logs)
        alarms = rate(logs, ceiling)
        found = rate([log - median + ceiling + SLOWER for log in logs], ceiling)
        quiet *= 1 - alarms
        spread = 1.4826 * statistics.median(abs(log - median) for log in logs)
        print(
            f"  {kind:<10} {math.exp(median):.3f} (a pair varies by {spread:.1%}) under {math.exp(ceiling):.2f}: "
            f"{alarms:.2%} alarms; 10 % over: {found:.1%} found",
            flush=True,
        )
    print(f"  the family: alarms in {1 - quiet:.2%} of runs (target 0.20%)")
    load = boot.bench_workloads["forward"]
    twin = Boot(boot.spec, boot.folder, trusted=True, forwards=boot.forwards).bench_workloads["forward"]
    logs = measured(twin.reference, load.reference, pairs)
    alarms, found = rate(logs, math.log(TOLERANCE)), rate([log + SLOWER for log in logs], math.log(TOLERANCE))
    own = math.exp(statistics.median(logs))
    print(f"  A/A {own:.3f} under {TOLERANCE}: {alarms:.2%} alarms; with 10 % more: {found:.1%} found", flush=True)


def measured(subject: timing.Call, reference: timing.Call, count: int) -> list[float]:
    """Log ratios of so many pairs."""
    with timing.quiet():
        for _ in range(timing.WARM_UP):
            subject(), reference()
        return [math.log(one / other) for one, other in timing.pairs(subject, reference, count)]


def rate(logs: Sequence[float], limit: float) -> float:
    """The share of replays that end over the limit, measured once more where they do."""
    draw = random.Random(0)
    return sum(over(logs, limit, draw) and over(logs, limit, draw) for _ in range(REPLAYS)) / REPLAYS


def over(logs: Sequence[float], limit: float, draw: random.Random) -> bool:
    """What the sequential rule says of one replay."""
    replay: list[float] = []
    pairs = blocks(logs, draw)
    for stage in timing.STAGES:
        while len(replay) < stage:
            replay.append(next(pairs))
        found = timing.judge(replay, math.exp(limit))
        if found is not None:
            return found.over
    raise AssertionError("the last stage decides")


def blocks(logs: Sequence[float], draw: random.Random) -> Iterator[float]:
    """Pairs in blocks from anywhere, each as long as what disturbs a machine may last."""
    while True:
        start = draw.randrange(len(logs))
        yield from (logs[(start + index) % len(logs)] for index in range(BLOCK))


def judged(boot: Boot) -> None:
    """Judge the family, and say what it takes."""
    registry, spec = requirements(), boot.spec
    judge = Judge(boot, ledger.load(spec, registry), registry)
    family = [required for required in registry.values() if required.family == "throughput"]
    # What the family rests on is not its own time.
    for need in {need for required in family for need in required.needs}:
        places: list[str | None] = [*boot.pairs] if registry[need].per_layout else [None]
        for place in places:
            judge.verdict(registry[need], place)
    wall, busy = time.perf_counter(), time.process_time()
    slow = [required.id for required in family if "ratio" in required.id and judge.verdict(required, None).findings]
    timed = time.perf_counter() - wall, time.process_time() - busy
    told = f"calls slow: {', '.join(slow)}" if slow else "calls nothing slow"
    print(f"  a run of the ratios takes {timed[0]:.1f} s, {timed[1]:.1f} s of them its own, and {told}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    fields = dict(argument.split("=") for argument in given if "=" in argument)
    with offline():
        main([argument for argument in given if "=" not in argument], int(fields.get("pairs", 100)))
