"""What a check says: findings, and the verdict they add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """The outcome of one requirement in one layout."""

    PASS = "PASS"
    FAIL = "FAIL"
    DEVIATION = "DEVIATION"
    REFUSED = "REFUSED"
    BLOCKED = "BLOCKED"
    ERROR = "ERROR"


MET = frozenset({Verdict.PASS, Verdict.REFUSED, Verdict.DEVIATION})
"""Verdicts of a requirement that is met, or whose deviation is declared."""

LEDGER_CODES = frozenset({"stale", "drifted"})
"""Codes of findings about the ledger itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence against a requirement: what was got and wanted at one place.

    `at` is a place in the one notation of points and hooks, `case` the circumstance in which it went wrong
    there, such as a row of a batch; `size` is the largest deviation and `allowed` its budget, in the units of
    the tensor; `detail` may hold several lines, such as a drawn mask, and `picture` the same as an SVG image.
    """

    code: str
    at: str
    got: str
    want: str
    size: float | None = None
    allowed: float | None = None
    case: str = ""
    detail: str = ""
    picture: str = ""

    def line(self) -> str:
        """The finding in one line."""
        measure = "" if self.size is None else f" (off by {self.size:.1e}"
        if self.size is not None:
            measure += ")" if self.allowed is None else f", allowed {self.allowed:.1e})"
        place = f"{self.at} ({self.case})" if self.case else self.at
        return f"{place}: {self.code}: got {self.got}, want {self.want}{measure}"

    def as_json(self) -> dict[str, Any]:
        """Plain types; sizes are rounded to two digits, so that equal runs give equal bytes."""
        plain = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        return {key: f"{value:.1e}" if isinstance(value, float) else value for key, value in plain.items()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one requirement in one layout, with everything it rests on.

    `findings` are unexpected; `declared` pairs the reason of a ledger entry with the finding it declares;
    `unproven` are places that nothing is said about, because something they need is wrong there;
    `facts` are exact, reproducible results that the report shows, such as counts; `trace` is where the
    suite itself failed; what is `foreseen` is blocked by nothing but a declared deviation.
    """

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    declared: tuple[tuple[str, Finding], ...] = ()
    unproven: tuple[str, ...] = ()
    cause: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Any] = field(default_factory=dict)
    trace: str = ""
    foreseen: bool = False

    @property
    def wrong(self) -> frozenset[str]:
        """Every place with a finding, declared or not."""
        return frozenset(f.at for f in self.findings) | frozenset(f.at for _, f in self.declared)

    def red(self, *, must: bool) -> bool:
        """Whether this alone makes a run red: an unmet MUST, a fault of the suite, or a ledger that is not true."""
        if self.verdict is Verdict.ERROR or any(finding.code in LEDGER_CODES for finding in self.findings):
            return True
        return must and self.verdict not in MET and not self.foreseen

    def as_json(self) -> dict[str, Any]:
        """The hashed part of the outcome: everything but measurements and tracebacks."""
        plain: dict[str, Any] = {"verdict": str(self.verdict)}
        if self.findings:
            plain["findings"] = [finding.as_json() for finding in self.findings]
        if self.declared:
            plain["declared"] = [{"because": why, **finding.as_json()} for why, finding in self.declared]
        if self.unproven:
            plain["unproven"] = list(self.unproven)
        if self.cause:
            plain["cause"] = self.cause
        if self.facts:
            plain["facts"] = dict(self.facts)
        return plain
