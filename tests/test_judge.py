"""How findings become verdicts: needs, places, declarations, and faults of the suite itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.finding import Finding, Verdict
from conformance.ledger import Entry, Ledger
from conformance.requirement import MUST, Requirement


def finding(at: str, code: str = "wrong") -> Finding:
    return Finding(code, at, got="this", want="that")


def required(id: str, *found: Finding | Exception, needs: tuple[str, ...] = ()) -> Requirement:
    """A requirement, judged once per adapter, whose check finds just this."""

    def check(boot: Any) -> Iterator[Finding]:
        for item in found:
            if isinstance(item, Exception):
                raise item
            yield item

    return Requirement(id, MUST, needs, "1", "It MUST.", "Why.", check, ("boot",))


def judged(
    *registry: Requirement, behind: tuple[Requirement, ...] = (), entries: tuple[Entry, ...] = ()
) -> dict[str, Any]:
    """Outcomes of a few requirements by id, with those `behind` them; the model behind them is never touched."""
    from pathlib import Path

    from conformance.checkpoint import fixture_folder
    from conformance.judge import Judge
    from conformance.subject import Boot

    sound = (required("loading/boots"), required("loading/independence"))
    known = {r.id: r for r in (*sound, *behind, *registry)}
    boot = Boot(replace(SPEC), Path(fixture_folder("bd3lm")), trusted=True)
    judge = Judge(boot, Ledger(entries), known)
    return {r.id: judge.verdict(r, None) for r in registry}


def entry(requirement: str, at: str, code: str = "wrong", **fields: Any) -> Entry:
    return Entry(requirement, at, code, "known", **fields)


def test_nothing_found_is_a_pass_and_anything_undeclared_a_failure() -> None:
    outcomes = judged(required("a/good"), required("a/bad", finding("x")))
    assert [outcome.verdict for outcome in outcomes.values()] == [Verdict.PASS, Verdict.FAIL]


def test_declared_findings_are_a_deviation_only_when_all_of_them_are_declared() -> None:
    both = required("a/b", finding("blocks.0.x"), finding("blocks.1.x"))
    assert judged(both, entries=(entry("a/b", "blocks.{layer}.x"),))["a/b"].verdict is Verdict.DEVIATION
    one = judged(both, entries=(entry("a/b", "blocks.0.x"),))["a/b"]
    assert one.verdict is Verdict.FAIL
    assert [f.at for f in one.findings] == ["blocks.1.x"]
    assert [f.at for _, f in one.declared] == ["blocks.0.x"]


def test_two_findings_of_one_code_at_one_place_are_declared_together() -> None:
    rows = (replace(finding("logits"), case="row 0"), replace(finding("logits"), case="row 1"))
    outcome = judged(required("a/b", *rows), entries=(entry("a/b", "logits"),))["a/b"]
    assert outcome.verdict is Verdict.DEVIATION
    assert len(outcome.declared) == 2


@pytest.mark.parametrize(
    ("found", "code"), [((), "stale"), ((finding("x", "otherwise"),), "drifted")], ids=["stale", "drifted"]
)
def test_an_entry_that_no_longer_holds_is_red(found: tuple[Finding, ...], code: str) -> None:
    outcome = judged(required("a/b", *found), entries=(entry("a/b", "x"),))["a/b"]
    assert outcome.verdict is Verdict.FAIL
    assert code in {f.code for f in outcome.findings}


def test_out_of_its_range_an_entry_is_inert_and_the_finding_says_so() -> None:
    old = entry("a/b", "x", versions=("transformer-lens<1",))
    assert judged(required("a/b"), entries=(old,))["a/b"].verdict is Verdict.PASS
    outcome = judged(required("a/b", finding("x"), finding("y")), entries=(old,))["a/b"]
    assert [f.detail for f in outcome.findings] == ["declared only for transformer-lens<1", ""]


def test_all_ranges_of_an_entry_must_hold() -> None:
    split = entry("a/b", "x", versions=("transformer-lens>=4", "transformers<1"))
    assert judged(required("a/b", finding("x")), entries=(split,))["a/b"].verdict is Verdict.FAIL


def test_what_a_need_found_wrong_is_not_found_again() -> None:
    need = required("a/need", finding("x"))
    both = judged(need, required("a/b", finding("x"), finding("y"), needs=("a/need",)))["a/b"]
    assert [f.at for f in both.findings] == ["y"]
    assert both.unproven == ("x",)


def test_where_only_what_a_need_found_is_wrong_nothing_is_said() -> None:
    need = required("a/need", finding("x"))
    outcome = judged(need, required("a/b", finding("x"), needs=("a/need",)))["a/b"]
    assert outcome.verdict is Verdict.BLOCKED
    assert "a/need is not met at x" in outcome.cause


def test_behind_a_declared_deviation_the_rest_is_proven_and_its_places_are_not() -> None:
    need = required("a/need", finding("x"))
    outcome = judged(need, required("a/b", finding("x"), needs=("a/need",)), entries=(entry("a/need", "x"),))["a/b"]
    assert outcome.verdict is Verdict.PASS
    assert outcome.unproven == ("x",)


def test_an_entry_at_a_place_that_a_need_leaves_open_is_neither_used_nor_stale() -> None:
    need = required("a/need", finding("x"))
    outcome = judged(need, required("a/b", needs=("a/need",)), entries=(entry("a/b", "x"),))["a/b"]
    assert outcome.verdict is Verdict.PASS


@pytest.mark.parametrize("entries", [(), (entry("loading/boots", "boot", "raised"),)], ids=["unexpected", "declared"])
def test_without_a_boot_everything_is_blocked_and_no_check_runs(entries: tuple[Entry, ...]) -> None:
    from pathlib import Path

    from conformance.judge import Judge
    from conformance.subject import Boot

    known = {
        r.id: r
        for r in (
            required("loading/boots", finding("boot", "raised")),
            required("loading/independence", needs=("loading/boots",)),
            required("a/b", AssertionError("ran")),
        )
    }
    judge = Judge(Boot(SPEC, Path("nowhere"), trusted=True), Ledger(entries), known)
    outcome, declared = judge.verdict(known["a/b"], None), bool(entries)
    told = ", as its ledger declares" if declared else ""
    assert (outcome.verdict, outcome.cause) == (Verdict.BLOCKED, f"loading/boots is not met{told}")
    # What is not proven makes a run red unless its ledger says so.
    assert outcome.red(must=True) is not declared


@pytest.mark.parametrize("declared", [False, True])
def test_where_logits_are_no_numbers_what_rests_on_them_is_blocked_however_far_up(declared: bool) -> None:
    def check(pair: Any) -> Iterator[Finding]:
        yield finding("logits", "not-finite")

    runs = Requirement("loading/runs", MUST, (), "1", "It MUST.", "Why.", check, ("pair",))
    between = required("a/between", AssertionError("ran"), needs=("loading/runs",))
    last = required("a/last", finding("x"), needs=("a/between",))
    entries = (entry("loading/runs", "logits", "not-finite"),) if declared else ()
    outcomes = judged(between, last, behind=(runs,), entries=entries)
    assert outcomes["a/between"].verdict is Verdict.BLOCKED
    assert outcomes["a/between"].red(must=True) is not declared
    # Where nobody has declared it, whatever else goes wrong is told as well.
    assert outcomes["a/last"].verdict is (Verdict.BLOCKED if declared else Verdict.FAIL)


def test_a_check_that_breaks_is_an_error_of_the_suite() -> None:
    outcome = judged(required("a/b", KeyError("typo")))["a/b"]
    assert outcome.verdict is Verdict.ERROR
    assert outcome.cause == "KeyError in the check itself: 'typo'"
    assert "Traceback" in outcome.trace
    assert "trace" not in outcome.as_json()


def test_a_forward_that_raises_is_a_finding_about_the_subject() -> None:
    from conformance.pair import SubjectRaised

    outcome = judged(required("a/b", SubjectRaised("ValueError: no")))["a/b"]
    assert [f.code for f in outcome.findings] == ["raised"]
