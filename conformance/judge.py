"""The judge: runs checks against one adapter, settles findings with the ledger, remembers every outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .finding import Finding, Outcome, Verdict
from .ledger import Ledger
from .requirement import Requirement
from .subject import Boot, SubjectRaised

BLOCKING = ("loading/boots", "loading/independence")
"""Requirements without which nothing else can be judged."""


@dataclass
class Evidence:
    """What a check may add to its verdict: `facts` are exact and hashed, `measurements` are not."""

    facts: dict[str, Any] = field(default_factory=dict)
    measurements: dict[str, Any] = field(default_factory=dict)
    refused: bool = False


@dataclass
class Judge:
    """All verdicts on one adapter in one process; a need that was not selected is computed, not reported."""

    boot: Boot
    ledger: Ledger
    registry: Mapping[str, Requirement]
    outcomes: dict[tuple[str, str | None], Outcome] = field(default_factory=dict)

    def verdict(self, required: Requirement, layout: str | None, snapshot: Callable[..., Any] | None = None) -> Outcome:
        """The outcome of one requirement, in one layout where it has any; computed once."""
        key = (required.id, layout if required.per_layout else None)
        if key not in self.outcomes:
            self.outcomes[key] = self._run(required, key[1], snapshot)
        return self.outcomes[key]

    def _run(self, required: Requirement, layout: str | None, snapshot: Callable[..., Any] | None) -> Outcome:
        unproven: list[str] = []
        needs = required.needs if required.id in BLOCKING else (*BLOCKING, *required.needs)
        for need in needs:
            outcome = self._need(self.registry[need], layout)
            if outcome.verdict in (Verdict.FAIL, Verdict.BLOCKED, Verdict.ERROR) and need in BLOCKING:
                return Outcome(Verdict.BLOCKED, cause=f"{need} {outcome.verdict}")
            wrong = [*outcome.findings, *(finding for _, finding in outcome.declared)]
            unproven += [finding.at for finding in wrong]
        evidence = Evidence()
        offered = {"boot": self.boot, "evidence": evidence, "snapshot": snapshot}
        if layout is not None:
            offered["pair"] = self.boot.pairs[layout]
        try:
            found = list(required.check(**{name: offered[name] for name in required.parameters}))
        except SubjectRaised as error:
            found = [Finding("raised", layout or "forward", got=str(error), want="a forward that returns logits")]
        judged = [finding for finding in found if finding.at not in unproven]
        hidden = [finding.at for finding in found if finding.at in unproven]
        outcome = self.ledger.settle(required, layout, self._layers(), judged)
        if found and not judged and outcome.verdict is Verdict.PASS:
            outcome = Outcome(Verdict.BLOCKED, cause=f"only at places where {', '.join(required.needs)} fails")
        if evidence.refused and outcome.verdict is Verdict.PASS:
            outcome = Outcome(Verdict.REFUSED)
        return replace(
            outcome, unproven=tuple(hidden), facts=evidence.facts, measurements=evidence.measurements
        )

    def _need(self, need: Requirement, layout: str | None) -> Outcome:
        if need.per_layout and layout is None:
            outcomes = [self.verdict(need, name) for name in self.boot.pairs]
            return max(outcomes, key=lambda outcome: len(outcome.findings) + len(outcome.declared))
        return self.verdict(need, layout)

    def _layers(self) -> int:
        # A checkpoint whose config cannot be read has no layers to expand; loading/boots says why.
        try:
            return self.boot.layers
        except ValueError:
            return 0
