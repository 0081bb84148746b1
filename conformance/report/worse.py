"""What got worse between two reports of one adapter, in the order in which a reader wants to know it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..finding import LEDGER_CODES
from . import proof
from .changes import Changes, Lost, Told
from .trees import TREE

COUNTED = ("throughput/operators", "throughput/flops")
"""Requirements that count what a version of Python has no say in; calls of Python it has."""


@dataclass(frozen=True, slots=True)
class Worse:
    """One thing that is worse: the rule by which it is, what happened in one line, and the findings that show it."""

    rule: str
    text: str
    evidence: tuple[Told, ...] = ()


def failing(changes: Changes) -> Iterator[Worse]:
    """What no change may do: leave cases out, bring findings that nobody declared, lose what was met."""
    if changes.head is not None and not changes.head.whole:
        yield Worse("not-whole", f"the run is {changes.head.state}: not every requirement was judged")
    yield from _findings(changes)
    yield from _lost(changes)


def worse(changes: Changes) -> Iterator[Worse]:
    """All that is worse, also where it may be: as declared, in cost, in what the suite was shown to notice."""
    before, after = changes.base, changes.head
    if before is None or after is None:
        return
    if before.conforms and after.conforms is False:
        yield Worse("verdict", "it conformed before, and does not now")
    for one in failing(changes):
        if one.rule != "not-whole" or before.whole:
            yield one
    yield from _declared(changes)
    for moved in changes.coverage:
        if moved.before == "proven":
            fate = f"are {moved.after} now" if moved.after else "are gone"
            yield Worse("hooks", f"hooks in {moved.layout}: {len(moved.names)} that were proven {fate}")
    for count in changes.counts:
        if count.requirement in COUNTED and count.name.endswith(".subject") and (count.head or 0) > (count.base or 0):
            yield Worse("work", f"{count.name}{listed([count.layout])}: {count.head}, {count.base} before")
    for each in changes.speed:
        if each.slower:
            ratios = f"{each.after.median:.3f} times the model's time, {each.before.median:.3f} before"
            yield Worse("slower", f"{each.requirement}: {ratios}")
    for mutant in changes.mutants:
        if mutant.base == "KILLED" and mutant.head in proof.RED:
            yield Worse("mutants", f"mutant {mutant.mutant}: {mutant.head}, KILLED before")


def _findings(changes: Changes) -> Iterator[Worse]:
    """New findings, each requirement once, what the hook tree's snapshot shows apart from the rest."""
    new = {told.key: told for told in changes.new}
    # The same finding with other text: of a snapshot it is another change.
    new |= {told.key: told for told in changes.altered if told.requirement.startswith("snapshot/")}
    by_requirement: dict[str, list[Told]] = {}
    for told in new.values():
        by_requirement.setdefault(told.requirement, []).append(told)
    for requirement, found in by_requirement.items():
        layouts = listed(told.layout for told in found)
        if requirement == TREE and not any(told.code in LEDGER_CODES for told in found):
            text = f"the hook tree changed{layouts} and its snapshot did not; accept it with --snapshot-update"
            yield Worse("hook-tree", text, tuple(found))
            continue
        rule = "ledger" if all(told.code in LEDGER_CODES for told in found) else "new-finding"
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        case = f" ({first.case})" if first.case else ""
        text = f"{requirement}{layouts}: {first.at}{case}: {first.code}: got {first.got}, want {first.want}{more}"
        yield Worse(rule, text, tuple(found))


def _lost(changes: Changes) -> Iterator[Worse]:
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
        text = f"{len(names)} met before, now {head}{cause}: {', '.join(names[:3])}{more}"
        yield Worse("lost", text + listed(lost.layout for lost in those))


def _declared(changes: Changes) -> Iterator[Worse]:
    """Deviations that are new, and not only newly declared, of requirements that were judged before too."""
    known = {told.key for told in changes.known}
    unjudged = {(moved.requirement, moved.layout) for moved in changes.verdicts if moved.base is None}
    by_requirement: dict[str, list[Told]] = {}
    for told in changes.declared:
        if told.key not in known and (told.requirement, told.layout) not in unjudged:
            by_requirement.setdefault(told.requirement, []).append(told)
    for requirement, those in by_requirement.items():
        places = len({told.at for told in those})
        where = f"at {those[0].at}" + (f" and {places - 1} more places" if places > 1 else "")
        text = f"{requirement}{listed(told.layout for told in those)}: deviates {where}, as is declared now"
        yield Worse("deviation", text, tuple(those))


def listed(layouts: Iterable[str | None]) -> str:
    """` in train, sample`: each layout once; nothing where there is none."""
    names = list(dict.fromkeys(name for name in layouts if name))
    return f" in {', '.join(names)}" if names else ""
