"""docs/incumbent.json: lists the mutants that there are, and holds what TransformerLens's own verifier says of them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from test_docs import ROOT

from conformance.mutants import mutants

DATA = json.loads((ROOT / "docs" / "incumbent.json").read_text(encoding="utf-8"))["adapters"]
NOTICED, UNNOTICED = "loading/base-of-another-model", "parity/logit-scale"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "ci"))
        yield importlib.import_module("incumbent")


@pytest.fixture(scope="module")
def incumbent(script: ModuleType) -> Any:
    return script.Incumbent("bd3lm")


def test_the_file_lists_every_mutant(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--check"]) == 0, capsys.readouterr().out


def test_a_mutant_that_is_not_listed_is_told(script: ModuleType) -> None:
    data = {"adapters": {name: {"mutants": {"hooks/one": {}, "hooks/two": {}}} for name in script.ADAPTERS}}
    assert list(script.differences(data, ["hooks/one", "hooks/two"])) == []
    del data["adapters"]["bd3lm"]["mutants"]["hooks/one"]
    assert list(script.differences(data, ["hooks/one"])) == [
        "bd3lm: lacks hooks/one",
        "bd3lm: holds hooks/two, which is no mutant",
        "llada@repaired: holds hooks/two, which is no mutant",
    ]


def test_only_what_fails_anew_is_noticed(script: ModuleType) -> None:
    from incumbent_suite import Said, State

    def told(**states: str) -> dict[str, Said]:
        return {name: Said(State(state), "") for name, state in states.items()}

    clean = told(a="passed", b="passed", c="passed", d="warned", e="failed", f="skipped", g="passed")
    now = told(a="failed", b="warned", c="skipped", d="warned", e="failed", f="failed", new="failed")
    news = {"a": "failed", "b": "warned", "c": "lapsed", "f": "failed", "new": "failed", "g": "lapsed"}
    assert dict(script.changes(clean, now)) == news
    assert dict(script.changes(clean, clean)) == {}


@pytest.mark.parametrize("adapter", DATA)
def test_every_verdict_says_what_it_rests_on(adapter: str) -> None:
    wanted = {"noticed": "by", "broke": "error", "no place": "cause", "unnoticed": "verdict"}
    for id, told in DATA[adapter]["mutants"].items():
        assert told[wanted[told["verdict"]]], id
        known = DATA[adapter]["clean"].values()
        failing = set.intersection(*({*layout["failed"]} for layout in known))
        assert not failing & {*told.get("by", ())}, f"{id}: fails on the clean adapter too"


def test_the_clean_adapter_is_as_recorded(incumbent: Any) -> None:
    recorded, told = DATA["bd3lm"]["clean"], incumbent.as_it_is()
    for layout, one in told.items():
        assert {kind: list(one[kind]) for kind in one} == {kind: list(recorded[layout][kind]) for kind in one}
        assert one["results"] == recorded[layout]["results"]
    assert not any(incumbent.clean[layout]["1/forward_pass_logits"].state != "passed" for layout in told)


@pytest.mark.parametrize(("id", "verdict"), [(NOTICED, "noticed"), (UNNOTICED, "unnoticed")])
def test_verdicts_are_as_recorded(id: str, verdict: str, incumbent: Any) -> None:
    told = incumbent.verdict(mutants()[id])
    assert told == DATA["bd3lm"]["mutants"][id]
    assert told["verdict"] == verdict


def test_every_layout_is_a_text_of_its_own_tokens(incumbent: Any) -> None:
    for layout, call in incumbent.calls.items():
        pair = incumbent.boot.pairs[layout]
        tokens = call.helped(incumbent.boot.boot_again()).to_tokens(call.text)
        assert tokens.shape == pair.row["input_ids"].shape
        assert (tokens == pair.row["input_ids"])[:, 1:].all()
