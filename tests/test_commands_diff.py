"""`conformance diff`: what is told of two reports, what of it is worse, and what is no report."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from reports import DEVIATES, FAILS, FATES, FINDING, LOGITS, RELATION, document

import conformance
from conformance import commands
from conformance.gate.speed import CEILING
from conformance.report import pace

TREE = ["embed.hook_out: float32 batch n d_model", "unembed.hook_out: float32 batch n d_vocab"]


def tree(*lines: str) -> dict[str, Any]:
    return {"requirement": "snapshot/hook-tree", "layout": "train", "facts": {"tree": [*lines]}}


def operators(subject: int) -> dict[str, Any]:
    facts = {"operators": {"subject": subject, "reference": 180}}
    return {"requirement": "throughput/operators", "layout": "train", "facts": facts}


def calls(subject: int) -> dict[str, Any]:
    return {"requirement": "throughput/python-calls", "layout": "train", "facts": {"forward": {"subject": subject}}}


def fires() -> dict[str, Any]:
    hooks = {"canonical": ["embed.hook_out"], "aliases": {}, "refused": []}
    return {"requirement": "hooks/fires", "layout": "train", "facts": {"hooks": hooks}}


def timed(median: float, low: float, high: float) -> dict[str, Any]:
    report = document(RELATION)
    case = {"seconds": 2.0, "ratio": {"median": median, "interval_98": [low, high]}}
    report["measurements"] = {"cases": {"conformance.throughput::ratio[mine]": case}}
    return report


def killed(fate: str) -> dict[str, Any]:
    return document(RELATION, mutants=[{"mutant": "mask/causal", "kills": "mask/relation", "fate": fate}])


def covered(*wrong: str) -> dict[str, Any]:
    return document(fires(), coverage={"train": {**FATES, "wrong": [*wrong]}})


def unlike(report: dict[str, Any], **verdicts: Any) -> dict[str, Any]:
    return {**report, "verdicts": {**report["verdicts"], **verdicts}}


def test_the_same_report_twice() -> None:
    report = document(FAILS, LOGITS, tree(*TREE))
    found = conformance.diff(report, copy.deepcopy(report))
    assert not found
    assert found.worse == ()
    assert str(found).splitlines()[-2:] == ["nothing changed: 2/2 MUST · CONFORMS", "nothing changed"]


WORSE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a finding": (
        document(RELATION),
        document(FAILS),
        "mask/relation in train: blocks.0: relation: got 7 wrong cells, want the layout's relation",
    ),
    "a finding where a deviation was declared": (document(DEVIATES), document(FAILS), "mask/relation in train: .*"),
    "a deviation": (
        document(RELATION),
        document(DEVIATES),
        "mask/relation in train: deviates at blocks.0, as is declared now",
    ),
    "a lost requirement": (
        document(RELATION, LOGITS),
        document(LOGITS),
        "1 met before, now missing: mask/relation in train",
    ),
    "no more than a refusal": (
        document(RELATION),
        document({**RELATION, "verdict": "REFUSED"}),
        "1 met before, now REFUSED: mask/relation in train",
    ),
    "a run that is not whole": (
        document(RELATION),
        document(RELATION, state="INCOMPLETE"),
        "the run is INCOMPLETE: not every requirement was judged",
    ),
    "the verdict alone": (
        document(RELATION),
        document(RELATION, summary={"conforms": False}),
        "it conformed before, and does not now",
    ),
    "a hook": (covered(), covered("embed.hook_out"), "hooks in train: 1 that were proven are wrong now"),
    "more work": (
        document(operators(203)),
        document(operators(204)),
        "operators.subject in train: 204, 203 before",
    ),
    "time": (
        timed(1.0, 0.98, 1.02),
        timed(1.2, 1.15, 1.25),
        "throughput/ratio: 1.200 times the model's time, 1.000 before",
    ),
    "a mutant that lives on": (killed("KILLED"), killed("SURVIVED"), "mutant mask/causal: SURVIVED, KILLED before"),
}


@pytest.mark.parametrize("what", WORSE)
def test_what_is_worse(what: str) -> None:
    old, new, line = WORSE[what]
    (told,) = conformance.diff(old, new).worse
    assert re.fullmatch(f"mine: {line}", told), told


NOT_WORSE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "what is mended": (document(FAILS), document(RELATION)),
    "what was declared and is mended": (document(DEVIATES), document(RELATION)),
    "a finding that is declared now": (document(FAILS), document(DEVIATES)),
    "a deviation of what nobody judged before": (document(LOGITS), document(LOGITS, DEVIATES)),
    "a part of a part": (document(RELATION, state="PARTIAL"), document(RELATION, LOGITS, state="PARTIAL")),
    "a hook that is proven now": (covered("embed.hook_out"), covered()),
    "less work": (document(operators(204)), document(operators(203))),
    "calls of Python": (document(calls(1000)), document(calls(1001))),
    "time within chance": (timed(1.0, 0.98, 1.2), timed(1.15, 1.1, 1.25)),
    "time within the allowance": (timed(1.0, 0.99, 1.01), timed(1.07, 1.06, 1.08)),
    "a mutant that is noticed now": (killed("SURVIVED"), killed("KILLED")),
    "another version": (document(RELATION), unlike(document(RELATION), versions={"torch": "2.14.0"})),
}


@pytest.mark.parametrize("what", NOT_WORSE)
def test_what_is_not_worse(what: str) -> None:
    found = conformance.diff(*NOT_WORSE[what])
    assert found.worse == ()
    assert "worse" not in str(found).splitlines()


def test_the_allowance_is_that_of_the_gate() -> None:
    assert pace.SLOWER == CEILING


def test_adapters_of_one_report_alone() -> None:
    one, other = document(RELATION), document(RELATION, adapter="other")
    both = unlike(one, adapters=[*one["verdicts"]["adapters"], *other["verdicts"]["adapters"]])
    gone, added = conformance.diff(both, one), conformance.diff(one, both)
    assert gone.worse == ("other: is not in new",)
    assert str(gone).splitlines()[-2:] == ["other: only in old", "1 thing got worse"]
    assert added.worse == ()
    assert str(added).splitlines()[-2:] == [
        "other: only in new: 2/2 MUST · CONFORMS",
        "changed, and nothing got worse",
    ]


def changed() -> tuple[dict[str, Any], dict[str, Any]]:
    old = document(RELATION, tree(*TREE), operators(203), model={"code": "a1"}, sizes={"n": 21})
    new = document(FAILS, tree(TREE[0], "head: none"), operators(204), model={"code": "b2"}, sizes={"n": 24})
    return old, unlike(new, versions={"torch": "2.13.0", "transformers": "5.9.0"})


def test_everything_is_told_in_eighty_columns() -> None:
    lines = str(conformance.diff(*changed())).splitlines()
    assert lines == [
        "old     old: COMPLETE, 1 adapter",
        "new     new: COMPLETE, 1 adapter",
        "version transformers: 5.23.0 → 5.9.0",
        "===================================== mine =====================================",
        "as ever 2/2 MUST · CONFORMS",
        "worse",
        "  mask/relation in train: blocks.0: relation: got 7 wrong cells, want the",
        "    layout's relation",
        "  operators.subject in train: 204, 203 before",
        "verdicts",
        "  PASS → FAIL: mask/relation in train",
        "new findings",
        "  mask/relation in train at blocks.0: relation: got 7 wrong cells, want the",
        "    layout's relation",
        "hook tree",
        "  train:",
        "  -unembed.hook_out: float32 batch n d_vocab",
        "  +head: none",
        "counts",
        "  operators.subject in train: 203 → 204",
        "model",
        "  code: a1 → b2",
        "  n: 21 → 24",
        "2 things got worse",
    ]


def test_a_long_list_is_cut_unless_all_is_wanted() -> None:
    many = [{**FINDING, "at": f"blocks.{layer}"} for layer in range(12)]
    found = conformance.diff(document(RELATION), document({**FAILS, "findings": many}))
    assert "  and 2 more; -v shows all" in found.lines()
    assert sum(line.startswith("  mask/relation in train at blocks.") for line in found.lines(None)) == 12
    assert found.markdown().count("<details><summary>new findings: 12</summary>") == 1


def test_markdown_has_the_same_lines_and_formats_nothing_of_others() -> None:
    evil = {**FINDING, "got": "</details>\n# |`x`| <img src=x>", "at": "a`b|c"}
    old, new = changed()
    new["verdicts"]["adapters"][0]["results"][0]["findings"] = [evil]
    text = conformance.diff(old, new).markdown()
    assert text.startswith("## 2 things got worse\n")
    assert "- PASS → FAIL: `mask/relation` in `train`" in text
    assert "```diff\ntrain:\n-unembed.hook_out: float32 batch n d_vocab\n+head: none\n```" in text
    assert "<img" not in text
    assert "\n# " not in text


def test_what_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, nowhere, loose = tmp_path / "page.html", tmp_path / "nowhere.json", tmp_path / "loose.json"
    page.write_text("<html>")
    loose.write_text(json.dumps(document(RELATION)))
    told = {
        page: "no JSON, or cut short: .*; fetch or write it again",
        nowhere: "cannot be read: No such file or directory; name what --conform-report wrote",
        loose: "no report of this version: .*; run it again",
    }
    for path, line in told.items():
        assert commands.main(["diff", str(path), str(path)]) == commands.CANNOT
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(f"ERROR: {re.escape(str(path))}: {line}\n", err), err
