"""What makes a change fail, in the order in which a reader wants to know it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..finding import LEDGER_CODES
from ..report.changes import Changes, Lost, Told
from .speed import CEILING, Speed

HOOK_TREE = "snapshot/hook-tree"


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
        yield from _of_run(judged.adapter, judged.changes)
        yield from _of_findings(judged.adapter, judged.changes)
        yield from _of_lost(judged.adapter, judged.changes)
    if judged.speed is not None:
        for layout in judged.speed.slow:
            ratio = judged.speed.median(layout)
            yield Failure(
                "slowdown",
                judged.adapter,
                f"a forward in {layout} takes {ratio:.3f} times as long as at base, allowed {CEILING}",
            )


def _of_run(adapter: str, changes: Changes) -> Iterator[Failure]:
    if changes.head is not None and not changes.head.whole:
        yield Failure("not-whole", adapter, f"the run is {changes.head.state}: not every requirement was judged")


def _of_findings(adapter: str, changes: Changes) -> Iterator[Failure]:
    """New findings, each requirement once, what the hook tree's snapshot shows apart from the rest."""
    new = {told.key: told for told in changes.new}
    # The same finding with other text: of a snapshot it is another change.
    new |= {told.key: told for told in changes.altered if told.requirement.startswith("snapshot/")}
    by_requirement: dict[str, list[Told]] = {}
    for told in new.values():
        by_requirement.setdefault(told.requirement, []).append(told)
    for requirement, found in by_requirement.items():
        layouts = _listed(told.layout for told in found)
        if requirement == HOOK_TREE and not any(told.code in LEDGER_CODES for told in found):
            text = f"the hook tree changed{layouts} and its snapshot did not; accept it with --snapshot-update"
            yield Failure("hook-tree", adapter, text, tuple(found))
            continue
        rule = "ledger" if all(told.code in LEDGER_CODES for told in found) else "new-finding"
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        case = f" ({first.case})" if first.case else ""
        text = f"{requirement}{layouts}: {first.at}{case}: {first.code}: got {first.got}, want {first.want}{more}"
        yield Failure(rule, adapter, text, tuple(found))


def _of_lost(adapter: str, changes: Changes) -> Iterator[Failure]:
    """Requirements that were met; those that have a new finding are told with it, the rest in one line a kind."""
    told = {(told.requirement, told.layout) for told in (*changes.new, *changes.altered)}
    kinds: dict[str, list[Lost]] = {}
    for lost in changes.lost:
        if (lost.requirement, lost.layout) not in told:
            kinds.setdefault(lost.head, []).append(lost)
    for head, those in kinds.items():
        names = list(dict.fromkeys(lost.requirement for lost in those))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        cause = f" ({those[0].cause})" if those[0].cause else ""
        text = f"{len(names)} met at base, at head {head}{cause}: {', '.join(names[:3])}{more}"
        yield Failure("lost", adapter, text + _listed(lost.layout for lost in those))


def _listed(layouts: Iterable[str | None]) -> str:
    names = list(dict.fromkeys(name for name in layouts if name))
    return f" in {', '.join(names)}" if names else ""
