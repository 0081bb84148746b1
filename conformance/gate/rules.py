"""What makes a change fail, in the order in which a reader wants to know it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..report.changes import Changes, Told
from ..report.worse import failing
from .speed import CEILING, Speed


@dataclass(frozen=True, slots=True)
class Failure:
    """One reason to refuse a change: the rule, what happened in one line, and the findings that show it."""

    rule: str
    adapter: str
    text: str
    evidence: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that is known of one adapter; `why` is the changed file for which it was run, empty where it was not."""

    adapter: str
    path: str
    why: str = ""
    changes: Changes | None = None
    speed: Speed | None = None
    cannot: str = ""
    """Why head gave no report."""
    base_cannot: str = ""
    """Why base gave none, so that there is nothing to compare with."""
    vanished: bool = False
    failures: tuple[Failure, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "failures", tuple(failures(self)))


def failures(judged: Judgement) -> Iterator[Failure]:
    """Every reason to refuse the change for one adapter; none if it may pass."""
    if judged.vanished:
        yield Failure("vanished", judged.adapter, "base has this adapter and head does not; say so in an issue first")
    if judged.cannot:
        rule = "ledger" if judged.cannot.startswith("ledger ") else "cannot-run"
        yield Failure(rule, judged.adapter, judged.cannot)
    if judged.changes is not None:
        for worse in failing(judged.changes):
            yield Failure(worse.rule, judged.adapter, worse.text, worse.evidence)
    if judged.speed is not None:
        for layout in judged.speed.slow:
            ratio = judged.speed.median(layout)
            yield Failure(
                "slowdown",
                judged.adapter,
                f"a forward in {layout} takes {ratio:.3f} times as long as at base, allowed {CEILING}",
            )
