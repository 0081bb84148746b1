"""Memory: what is left of a run when its results are gone. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...subject import Boot

RUNS = 50


@requirement("throughput/held", level=MUST, needs=("parity/logits",))
def held(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """After a run, with hooks, a cache or a backward or without, memory MUST hold the tensors that were returned and no
    other that the bridge has made, unless the reference keeps as much.

    A tensor that a bridge remembers for itself is one that no list shows, for as long as the model lives.
    """
    from ... import footprint, workloads

    for kind, workload in workloads.of_boot(boot.small).items():
        # What a first run prepares for all later ones is no part of this one.
        workload.subject(), workload.reference()
        got, want = footprint.of_call(workload.subject), footprint.of_call(workload.reference)
        evidence.facts[kind] = {"subject peak": got.peak, "reference peak": want.peak}
        if got.left > want.left:
            yield Finding("held", kind, got=f"{got.left} bytes", want=f"{want.left} bytes")


@requirement("throughput/growth", level=MUST, needs=("parity/logits",))
def growth(boot: Boot) -> Iterator[Finding]:
    """However many runs there were, with hooks, caches and backwards, no tensor MUST be left of them but what one run
    of each leaves.

    A study is thousands of runs; one logit tensor kept of each ends it in the night.
    """
    from ... import footprint, workloads

    calls = [workload.subject for workload in workloads.of_boot(boot.small).values()]
    grown = footprint.growth(calls, RUNS)
    if grown > 0:
        yield Finding("grows", "forward", got=f"{grown} bytes more after {RUNS} runs", want="none")
