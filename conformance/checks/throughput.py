"""throughput: what the bridge adds to the model's own work, counted exactly and timed in pairs. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from ..judge import Evidence
    from ..pair import Pair
    from ..snapshots import Snapshot
    from ..subject import Boot
    from ..timing import Measure


@requirement("throughput/flops", level=MUST, needs=("parity/logits",))
def flops(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """A forward of the bridge MUST do exactly the matrix arithmetic of the reference.

    More is work done twice; less is a part of the model that did not run.
    """
    from .. import counting

    got, want = counting.flops(pair.call), counting.flops(pair.reference_logits)
    evidence.facts["flops"] = {"subject": got, "reference": want}
    if got != want:
        yield Finding("flops", "forward", got=str(got), want=str(want))


@requirement("throughput/operators", level=MUST, needs=("parity/logits",))
def operators(pair: Pair, evidence: Evidence, snapshot: Snapshot) -> Iterator[Finding]:
    """The operators that a bridge dispatches beyond the reference's MUST be those of the committed snapshot.

    Overhead grows one operator at a time, and none of them shows in a timing.
    """
    from .. import counting

    pair = pair.boot.small.pairs[pair.layout.name]
    got, want = counting.operators(pair.call), counting.operators(pair.reference_logits)
    added = {name: got.get(name, 0) - want.get(name, 0) for name in sorted(got.keys() | want.keys())}
    evidence.facts["operators"] = {"subject": sum(got.values()), "reference": sum(want.values())}
    lines = [f"{count:+d} {name}" for name, count in added.items() if count]
    yield from snapshot(["bridge minus reference, one forward", *lines])


@requirement("throughput/ratio", level=MUST, needs=("parity/logits",))
def ratio(boot: Boot, evidence: Evidence, stopwatch: Measure | None) -> Iterator[Finding]:
    """Where arithmetic dominates, the bridge's forward MUST take no longer than the spec's ceiling times the model's.

    A hooked model that is twice as slow is left for home-made hooks, which nobody checks.
    """
    from ..timing import paired_ratio

    pair = next(iter(boot.resized(boot.spec.bench).pairs.values()))
    found = paired_ratio(pair.call, pair.reference_logits, boot.spec.ceiling, first=stopwatch)
    if found.over:
        # One in many measurements falls into a bad moment of the machine; two in a row do not.
        found = paired_ratio(pair.call, pair.reference_logits, boot.spec.ceiling)
    evidence.measurements["ratio"] = {
        "median": round(found.median, 4),
        "interval_98": [round(found.low, 4), round(found.high, 4)],
        "pairs": found.pairs,
    }
    if found.over:
        yield Finding(
            "too-slow",
            "forward",
            got="a ratio over the ceiling (figures under measurements)",
            want=f"{boot.spec.ceiling}",
        )
