"""The judge: runs checks against one adapter, settles findings with the ledger, remembers every outcome."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .finding import MET, Finding, Outcome, Verdict
from .ledger import Ledger
from .pair import SubjectRaised
from .requirement import BLOCKING, Requirement
from .subject import Boot


@dataclass
class Evidence:
    """What a check may add to its verdict: `facts` are exact and hashed, `measurements` are not."""

    facts: dict[str, Any] = field(default_factory=dict)
    measurements: dict[str, Any] = field(default_factory=dict)
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Tools:
    """What only a pytest item can lend to a check: the committed snapshots, a stopwatch that keeps records, and whether
    its user wants what is measured to be the baseline from now on.
    """

    snapshot: Callable[..., Any] | None = None
    stopwatch: Callable[..., Any] | None = None
    renew: bool = False


@dataclass
class Judge:
    """All verdicts on one adapter in one process; a need that was not selected is computed, not reported."""

    boot: Boot
    ledger: Ledger
    registry: Mapping[str, Requirement]
    outcomes: dict[tuple[str, str | None], Outcome] = field(default_factory=dict)

    def verdict(self, required: Requirement, layout: str | None, tools: Tools | None = None) -> Outcome:
        """The outcome of one requirement, in one layout where it has any; computed once."""
        key = (required.id, layout if required.per_layout else None)
        if key not in self.outcomes:
            self.outcomes[key] = self._settled(required, key[1], tools or Tools())
        return self.outcomes[key]

    def _settled(self, required: Requirement, layout: str | None, tools: Tools) -> Outcome:
        needs = self._needs(required, layout)
        unmet = [need for need, outcomes in needs.items() if not all(_stands(outcome) for outcome in outcomes)]
        for need in unmet:
            # Nothing is known, either, of what rests on a need that is blocked itself.
            if need in BLOCKING or any(outcome.foreseen for outcome in needs[need]):
                foreseen = all(_stands(outcome) or _foreseen(outcome) for outcome in needs[need])
                told = ", as its ledger declares" if foreseen else ""
                return Outcome(Verdict.BLOCKED, cause=f"{need} is not met{told}", foreseen=foreseen)
        evidence = Evidence()
        try:
            found = self._findings(required, layout, evidence, tools)
        except Exception as error:
            cause = f"{type(error).__name__} in the check itself: {error}"
            return Outcome(Verdict.ERROR, cause=cause, trace=traceback.format_exc())

        wrong = {place for outcomes in needs.values() for outcome in outcomes for place in outcome.wrong}
        broken = {f.at for outcomes in needs.values() for outcome in outcomes for f in outcome.findings}
        judged = [finding for finding in found if finding.at not in wrong]
        outcome = self.ledger.settle(required, layout, self._layers(), judged, untold=broken)
        # Where a capability was not refused as it should be, nobody has refused what rests on it.
        if outcome.verdict is Verdict.PASS and (len(judged) < len(found) or evidence.refused) and unmet:
            return Outcome(Verdict.BLOCKED, cause=f"{', '.join(unmet)} is not met at {', '.join(sorted(broken)[:3])}")
        if outcome.verdict is Verdict.PASS and evidence.refused:
            outcome = Outcome(Verdict.REFUSED)
        unproven = tuple(sorted(wrong - outcome.wrong))
        return replace(outcome, unproven=unproven, facts=evidence.facts, measurements=evidence.measurements)

    def _findings(self, required: Requirement, layout: str | None, evidence: Evidence, tools: Tools) -> list[Finding]:
        offered: dict[str, Any] = {"boot": self.boot, "evidence": evidence}
        offered |= {"snapshot": tools.snapshot, "stopwatch": tools.stopwatch, "renew": tools.renew}
        if layout is not None:
            offered["pair"] = self.boot.pairs[layout]
        before = dict(self.boot.forwards)
        try:
            return list(required.check(**{name: offered[name] for name in required.parameters}))
        except SubjectRaised as error:
            return [Finding("raised", "forward", got=str(error), want="a forward that returns logits")]
        finally:
            spent = {kind: count - before.get(kind, 0) for kind, count in self.boot.forwards.items()}
            evidence.measurements["forwards"] = {kind: count for kind, count in sorted(spent.items()) if count}

    def _needs(self, required: Requirement, layout: str | None) -> dict[str, list[Outcome]]:
        ids = required.needs
        if required.id not in BLOCKING:
            # A check on the adapter as a whole says itself whether it needs forwards.
            blocking = (self.registry[id] for id in BLOCKING if id in self.registry)
            ids = (*(need.id for need in blocking if layout is not None or not need.per_layout), *ids)
        needs: dict[str, list[Outcome]] = {}
        for need in map(self.registry.__getitem__, ids):
            # What is judged once per adapter rests on a need in every layout.
            places = [layout] if layout is not None or not need.per_layout else list(self.boot.pairs)
            needs[need.id] = [self.verdict(need, place) for place in places]
            if need.id in BLOCKING and not all(_stands(outcome) for outcome in needs[need.id]):
                break
        return needs

    def _layers(self) -> int:
        # A checkpoint whose config cannot be read has no layers to expand; loading/boots says why.
        try:
            return self.boot.layers
        except ValueError:
            return 0


def _foreseen(outcome: Outcome) -> bool:
    """Whether nobody can rest on it for a reason that is declared."""
    return outcome.foreseen or outcome.verdict is Verdict.DEVIATION


LEAVES_NOTHING = {("raised", "boot"), ("not-finite", "logits")}
"""Findings on what must hold before anything else, declared or not, after which there is nothing to judge."""


def _stands(outcome: Outcome) -> bool:
    """Whether others can rest on it: it is met, and declared or not, a bridge was booted, whose logits are numbers."""
    return outcome.verdict in MET and not any((f.code, f.at) in LEAVES_NOTHING for _, f in outcome.declared)
