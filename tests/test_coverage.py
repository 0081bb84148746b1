"""Hook coverage: a name counts as proven only when every proof of it came about and holds."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.report.coverage import NAMES, PROOFS, coverage

HOOKS = {"canonical": ["a.hook_in", "a.hook_out"], "aliases": {"hook_a": "a.hook_out"}, "refused": []}


def results(changed: str = NAMES, **fields: Any) -> list[dict[str, Any]]:
    """All proofs met in one layout, one of them changed."""
    proofs: list[dict[str, Any]] = [{"requirement": id, "layout": "train", "verdict": "PASS"} for id in PROOFS]
    proofs[0]["facts"] = {"hooks": HOOKS}
    for proof in proofs:
        if proof["requirement"] == changed:
            proof |= fields
    return proofs


def finding(at: str, code: str = "value-mismatch") -> list[dict[str, str]]:
    return [{"at": at, "code": code}]


def fates(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    covered = coverage(found)["train"]
    assert covered["advertised"] == 3
    return {fate: names for fate, names in covered.items() if fate not in ("advertised", "proven") and names}


def test_every_proof_met() -> None:
    assert fates(results()) == {}
    assert coverage(results())["train"]["proven"] == 3


@pytest.mark.parametrize("proof", [id for id in PROOFS if id != NAMES])
def test_a_finding_of_any_proof_is_wrong_and_its_alias_with_it(proof: str) -> None:
    for kind in ("findings", "declared"):
        assert fates(results(proof, **{kind: finding("a.hook_out")})) == {"wrong": ["a.hook_out", "hook_a"]}


def test_an_alias_may_be_wrong_by_itself() -> None:
    assert fates(results("gradients/taps", declared=finding("hook_a"))) == {"wrong": ["hook_a"]}


@pytest.mark.parametrize("verdict", ["BLOCKED", "ERROR"])
def test_without_a_proof_every_name_is_unknown(verdict: str) -> None:
    assert fates(results("interventions/edits", verdict=verdict)) == {"unknown": ["a.hook_in", "a.hook_out", "hook_a"]}


def test_a_proof_that_fails_as_a_whole_leaves_every_name_unknown() -> None:
    found = results("hooks/identity", verdict="FAIL", findings=finding("logits"))
    assert len(fates(found)["unknown"]) == 3


def test_what_no_one_can_judge_is_unknown() -> None:
    assert fates(results("parity/taps", findings=finding("a.hook_in", "unknown"))) == {"unknown": ["a.hook_in"]}
    assert fates(results("gradients/taps", unproven=["a.hook_in"])) == {"unknown": ["a.hook_in"]}


def test_dead_and_refused_hooks_are_told_apart() -> None:
    refused = {"hooks": {**HOOKS, "refused": ["a.hook_in"]}}
    found = results(NAMES, facts=refused, declared=finding("a.hook_out", "never-fires"))
    assert fates(found) == {"refused": ["a.hook_in"], "dead": ["a.hook_out", "hook_a"]}


def test_a_run_without_every_proof_says_nothing() -> None:
    assert coverage(results()[:-1]) == {}
    assert coverage([]) == {}
