"""Baseline: time of the bridge over the model's where overhead dominates, against what it was. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import SHOULD, Occasion, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...subject import Boot

TOLERANCE = 0.10
"""How far a ratio may lie above its baseline: five times what the same bridge varies by from process to process."""

BUSY = 0.50
"""The same where others want the core: who comes back to it finds its caches cold, Python more so than arithmetic."""

ROUNDS = 3
"""Full measurements behind a ratio that is put down."""


@requirement("throughput/baseline", level=SHOULD, needs=("parity/logits",), run=Occasion.COMPLETE)
def baseline(boot: Boot, evidence: Evidence, renew: bool) -> Iterator[Finding]:
    """At the miniature's size, where overhead dominates, a bridge SHOULD take no longer over the model than its
    committed baseline for these minors of Python and TransformerLens, this torch and this class of processor, and a
    tenth, or half where the core is shared.

    Ratios at that size are those of most experiments. They differ from machine to machine, so where no baseline is
    committed for this one they are measurements and nothing else.
    """
    from ... import baselines, timing, workloads

    machine, known = baselines.Machine.here(), {} if renew else boot.ratios
    measured: dict[str, Any] = {"machine": str(machine)}
    if not known:
        measured["report only"] = "no baseline for this machine; --baseline-update puts one down"
    evidence.measurements["baseline"] = measured
    put: dict[str, float] = {}
    for kind, load in workloads.of_boot(boot.small).items():
        before = known.get(kind, math.inf)
        # Few pairs say whether the core is our own; where it is not, many would say no more.
        found = timing.settled(load.subject, load.reference, before * (1 + BUSY))
        busy = found.share < timing.ALONE
        if kind in known and not busy:
            found = timing.settled(load.subject, load.reference, before * (1 + TOLERANCE))
        measured[kind] = {"median": round(found.median, 3), "pairs": found.pairs, "busy": busy}
        if kind in known:
            measured[kind]["baseline"] = before
        if found.over:
            got = "a ratio over its baseline by more than is allowed (figures under measurements)"
            yield Finding("slower", kind, got=got, want="its baseline; accept with --baseline-update")
        if renew:
            full = [timing.full(load.subject, load.reference) for _ in range(ROUNDS)]
            put[kind] = statistics.median(one.median for one in full)
            if min(one.share for one in full) < timing.ALONE:
                yield Finding(
                    "busy", kind, got="a core that others want", want="one of our own, to put a baseline down"
                )
                return
    if renew:
        baselines.write(baselines.path_of(boot.spec), machine, put)
