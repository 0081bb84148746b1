"""Kills: a mutant put into an adapter, and who in its family notices."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from .finding import LEDGER_CODES, Finding, Outcome, Verdict
from .judge import Judge, Tools
from .mutants import Mutant, NoPlace
from .requirement import BLOCKING, Occasion, Requirement
from .snapshots import differences
from .subject import Boot

FAR = 10
"""How many budgets a defect lies off, at least; one that is noticed by a hair proves little."""


class Fate(StrEnum):
    """What became of a mutant in one adapter: FORESTALLED is one at whose place nothing is left to say, as something
    that the declared requirement needs has found it wrong already.
    """

    KILLED = "KILLED"
    FORESTALLED = "FORESTALLED"
    SURVIVED = "SURVIVED"
    EQUIVALENT = "EQUIVALENT"
    MOOT = "MOOT"
    NO_PLACE = "NO PLACE"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Kill:
    """Who noticed a mutant: `by` are requirements of its family, `without` those that notice it if the one declared
    for it had never been written; `first` is the first finding, `cause` why nothing was learned.
    """

    mutant: str
    kills: str
    fate: Fate
    by: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    first: str = ""
    cause: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain types; what is empty is left out."""
        plain = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}
        return {name: list(value) if isinstance(value, tuple) else str(value) for name, value in plain.items()}


def kill(clean: Judge, mutant: Mutant, proof: str | None = None) -> Kill:
    """Put a mutant into a boot of its own and judge its family, with the requirement declared for it and without.

    What the family needs of others is taken as `clean` has it: it must notice by itself, and nobody can notice anything
    by a requirement that the adapter does not meet anyway. `proof` says why nobody can notice the mutant in this
    adapter at all, and is wrong where somebody does.
    """
    try:
        told = _judged(clean, mutant)
    except NoPlace as none:
        told = Kill(mutant.id, mutant.kills, Fate.NO_PLACE, cause=str(none))
    if proof is None:
        return told
    if told.fate is Fate.SURVIVED and not told.by:
        return replace(told, fate=Fate.EQUIVALENT, cause=proof)
    return replace(
        told, fate=Fate.ERROR, cause=f"it is {told.fate}, and no survivor; delete its entry as an equivalent"
    )


def _judged(clean: Judge, mutant: Mutant) -> Kill:
    registry, declared = clean.registry, clean.registry[mutant.kills]
    boot = _boot_like(clean.boot)
    told = functools.partial(Kill, mutant.id, mutant.kills)
    family = [required for required in registry.values() if _asked(required, declared)]
    for required in family:
        # In its order, whoever asks first: some tables grow with what has run.
        outcomes(clean, required)
    taken = {key: outcome for key, outcome in clean.outcomes.items() if _elsewhere(registry[key[0]], declared)}
    mutant.apply(boot)
    judge = Judge(boot, clean.ledger, registry, dict(taken))
    found = {required.id: _noticed(judge, required, clean) for required in family}
    # What does not rest on the requirement that is left out stands as it is.
    standing = {k: outcome for k, outcome in judge.outcomes.items() if not rests_on(registry, k[0], mutant.kills)}
    rest = Judge(boot, clean.ledger, without(registry, mutant.kills), taken | standing)
    left = {one.id: _noticed(rest, rest.registry[one.id], clean) for one in family if one is not declared}

    faults = [o.cause for one in (judge, rest) for o in one.outcomes.values() if o.verdict is Verdict.ERROR]
    if faults:
        return told(Fate.ERROR, cause=faults[0])
    by = tuple(id for id, findings in found.items() if findings)
    others = tuple(id for id, findings in left.items() if findings)
    if mine := found[mutant.kills]:
        measured = [finding.size / finding.allowed for finding in mine if finding.size and finding.allowed]
        if (far := max(measured, default=FAR)) < FAR:
            return told(Fate.ERROR, by, others, cause=f"it lies {far:.1f} budgets off, want {FAR}; make it larger")
        return told(Fate.KILLED, by, others, first=mine[0].line())
    as_it_is = {str(outcome.verdict) for outcome in outcomes(clean, declared)}
    if Verdict.PASS not in as_it_is:
        return told(Fate.MOOT, by, others, cause=f"{mutant.kills} is {', '.join(sorted(as_it_is))} as it is")
    if sooner := [id for id in by if rests_on(registry, mutant.kills, id)]:
        return told(Fate.FORESTALLED, by, others, cause=f"{sooner[0]}, which it needs, notices it first")
    blocked = [outcome.cause for outcome in outcomes(judge, declared) if outcome.verdict is Verdict.BLOCKED]
    cause = f"{mutant.kills} is blocked: {blocked[0]}" if blocked else f"{mutant.kills} does not notice it"
    return told(Fate.SURVIVED, by, others, cause=cause)


def _boot_like(clean: Boot) -> Boot:
    boot = Boot(clean.spec, clean.folder, clean.trusted)
    # Only some machines have a committed baseline.
    boot.__dict__["ratios"] = {}
    return boot


def _noticed(judge: Judge, required: Requirement, clean: Judge) -> list[Finding]:
    """New findings of a requirement, in all layouts."""
    found = [finding for outcome in outcomes(judge, required) for finding in noticed(outcome)]
    known = [finding for outcome in outcomes(clean, required) for finding in outcome.findings] if found else []
    return [finding for finding in found if finding not in known]


def outcomes(judge: Judge, required: Requirement) -> list[Outcome]:
    """A requirement in all layouts, with the committed snapshots at hand."""
    spec = judge.boot.spec
    found = []
    for layout in [layout.name for layout in spec.layouts] if required.per_layout else [None]:
        case = f"{spec.name}-{layout}" if layout else spec.name
        path = spec.snapshots / f"{required.check.__name__}[{case}].txt"
        found.append(judge.verdict(required, layout, Tools(snapshot=functools.partial(differences, path))))
    return found


def _asked(required: Requirement, declared: Requirement) -> bool:
    """Whether a requirement is judged beside the declared one; one that takes more time only beside its like."""
    return required.family == declared.family and required.run in (Occasion.EVERY, declared.run)


def _elsewhere(required: Requirement, declared: Requirement) -> bool:
    """Whether a requirement is another family's, and not one without which nothing can be said of a boot."""
    return required.family != declared.family and required.id not in BLOCKING


def rests_on(registry: Mapping[str, Requirement], id: str, need: str) -> bool:
    """Whether the outcome of a requirement depends on that of another, by needs of needs."""
    if need in BLOCKING or id == need:
        return True
    return any(rests_on(registry, other, need) for other in registry[id].needs)


def without(registry: Mapping[str, Requirement], removed: str) -> dict[str, Requirement]:
    """The registry as it would be if one requirement had never been written."""
    return {
        id: replace(required, needs=tuple(need for need in required.needs if need != removed))
        for id, required in registry.items()
        if id != removed
    }


def noticed(outcome: Outcome) -> list[Finding]:
    """What a check itself found against a mutant: undeclared findings, the ledger's own remarks left out.

    A stale entry shows that something changed, not that the check saw what.
    """
    return [finding for finding in outcome.findings if finding.code not in LEDGER_CODES]
