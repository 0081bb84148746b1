"""Counts: work that is counted exactly, on any machine and under any load. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...pair import Pair
    from ...snapshots import Snapshot

TOLERANCE = 0.05
"""By how much the Python calls that a bridge adds may differ from the committed ones: they do between versions."""


@requirement("throughput/flops", level=MUST, needs=("parity/logits",))
def flops(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """A forward of the bridge, and one with its backward, MUST do exactly the matrix arithmetic of the reference.

    More is work done twice; less is a part of the model that did not run.
    """
    from ... import counting, workloads

    kinds = workloads.of_layout(pair)
    for kind, fact in (("forward", "flops"), ("backward", "flops with backward")):
        got, want = counting.flops(kinds[kind].subject), counting.flops(kinds[kind].reference)
        evidence.facts[fact] = {"subject": got, "reference": want}
        if got != want:
            yield Finding("flops", kind, got=str(got), want=str(want))


@requirement("throughput/operators", level=MUST, needs=("parity/logits",))
def operators(pair: Pair, evidence: Evidence, snapshot: Snapshot) -> Iterator[Finding]:
    """The operators that a bridge dispatches beyond the reference's in a forward and in a backward, and those that
    keeping a cache adds, MUST be those of the committed snapshot, and so the matrix arithmetic of the cache.

    Overhead grows one operator at a time, and none of them shows in a timing.
    """
    from ... import counting, workloads

    kinds = workloads.of_layout(pair.boot.small.afresh().pairs[pair.layout.name])
    forward, backward = kinds["forward"], kinds["backward"]
    plain, model = counting.operators(forward.subject), counting.operators(forward.reference)
    caching = counting.operators(kinds["cache"].subject)
    evidence.facts["operators"] = {"subject": sum(plain.values()), "reference": sum(model.values())}
    evidence.facts["operators with a cache"] = {"subject": sum(caching.values())}
    more = counting.flops(kinds["cache"].subject) - counting.flops(forward.subject)
    yield from snapshot(
        [
            *_section("bridge minus reference, one forward", plain, model),
            *_section("with a full cache minus without, one forward of the bridge", caching, plain),
            *([f"{more:+d} floating-point operations"] if more else []),
            *_section(
                "bridge minus reference, one forward and its backward",
                counting.operators(backward.subject),
                counting.operators(backward.reference),
            ),
        ]
    )


def _section(title: str, more: Mapping[str, int], less: Mapping[str, int]) -> Iterator[str]:
    """A line for each operator of which there are more, or fewer."""
    yield title
    for name in sorted(more.keys() | less.keys()):
        added = more.get(name, 0) - less.get(name, 0)
        if added:
            yield f"{added:+d} {name}"


@requirement("throughput/python-calls", level=MUST, needs=("parity/logits",))
def python_calls(pair: Pair, evidence: Evidence, snapshot: Snapshot) -> Iterator[Finding]:
    """The Python calls that a bridge adds to the reference's, in a forward, with a hook, with caches, in a backward and
    in a denoising step, MUST be those of the committed snapshot, give or take five in a hundred.

    At the sizes of most experiments Python is what a forward waits for, and its calls are the same on every machine.
    """
    from ... import counting, workloads

    kinds = workloads.of_layout(pair.boot.small.afresh().pairs[pair.layout.name])
    added = {}
    for kind, workload in kinds.items():
        got, want = counting.calls(workload.subject), counting.calls(workload.reference)
        evidence.facts[kind] = {"subject": got, "reference": want}
        added[kind] = got - want
    committed = _committed(pair.boot.spec.snapshots / f"python_calls[{pair.boot.spec}-{pair.layout.name}].txt")
    yield from snapshot(_about(committed, added))


def _about(committed: Mapping[str, int], added: Mapping[str, int]) -> Sequence[str]:
    """The lines of the snapshot; a number that is near enough to the committed one is told as that."""
    lines = ["Python calls that the bridge adds to the reference's"]
    for kind, count in added.items():
        before = committed.get(kind)
        near = before is not None and abs(count - before) <= TOLERANCE * abs(before)
        lines.append(f"{kind} {before if near else count:+d}")
    return lines


def _committed(path: Path) -> dict[str, int]:
    """Numbers by kind, as far as there are any that can be read."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    pairs = (line.rpartition(" ") for line in text.splitlines())
    return {kind: int(number) for kind, _, number in pairs if number.removeprefix("+").removeprefix("-").isdecimal()}
