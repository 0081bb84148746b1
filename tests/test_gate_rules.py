"""What makes a change fail, what a reviewer reads of it, and at which line; on reports made by hand."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from reports import DEVIATES, FAILS, FINDING, LOGITS, RELATION, document

from conformance.gate.gate import Held
from conformance.gate.outputs import annotated
from conformance.gate.repository import Revision
from conformance.gate.rules import Judgement
from conformance.gate.runs import Judged, Runner
from conformance.gate.speed import Speed
from conformance.gate.summary import TEN, lead, render, ten, verdict
from conformance.gate.tree import Tree
from conformance.report import annotations, markdown
from conformance.report.changes import compare

TREE = {"requirement": "snapshot/hook-tree", "layout": "train"}
CHANGED = {"code": "changed", "at": "hook_tree", "got": "2 changed lines", "want": "the snapshot", "detail": "-a\n+b"}
STALE = {"code": "stale", "at": "blocks.0", "got": "no finding", "want": "relation, as the ledger declares"}


def failing(requirement: dict[str, Any], *findings: dict[str, Any]) -> dict[str, Any]:
    return {**requirement, "verdict": "FAIL", "findings": list(findings)}


def judged(base: Any, head: Any, **fields: Any) -> Judgement:
    return Judgement("mine", "mine:SPEC", why="mine.py", changes=compare(base, head, "mine"), **fields)


def held(*judgements: Judgement, sources: dict[str, str] | None = None, **fields: Any) -> Held:
    base, head = Revision("main", "a" * 40, "1" * 40), Revision("HEAD", "b" * 40, "2" * 40)
    return Held(base, head, ("mine.py",), judgements, {}, {"mine": sources or {}}, **fields)


def rules(judgement: Judgement) -> list[str]:
    return [failure.rule for failure in judgement.failures]


@pytest.mark.parametrize(
    ("base", "head", "expected"),
    [
        (document(RELATION), document(RELATION), []),
        (document(FAILS), document(FAILS), []),
        (document(RELATION), document(DEVIATES), []),
        (document(FAILS), document(RELATION), []),
        (document(RELATION), document(FAILS), ["new-finding"]),
        (document(DEVIATES), document(FAILS), ["new-finding"]),
        (document(DEVIATES), document(failing(RELATION, STALE)), ["ledger"]),
        (document(RELATION, LOGITS), document(LOGITS), ["lost"]),
        (document(RELATION), document({**RELATION, "verdict": "REFUSED"}), ["lost"]),
        (document(RELATION), document({**RELATION, "verdict": "BLOCKED", "cause": "no"}), ["lost"]),
        (document(TREE), document(failing(TREE, CHANGED)), ["hook-tree"]),
        (document(failing(TREE, CHANGED)), document(failing(TREE, CHANGED)), []),
        (document(failing(TREE, CHANGED)), document(failing(TREE, {**CHANGED, "detail": "-a\n+c"})), ["hook-tree"]),
        (document(RELATION), document(RELATION, state="INCOMPLETE"), ["not-whole"]),
        (document(RELATION), document(RELATION, state="PARTIAL"), ["not-whole"]),
        (None, document(RELATION), []),
        (None, document(DEVIATES), []),
        (None, document(FAILS), ["new-finding"]),
    ],
)
def test_what_fails(base: Any, head: Any, expected: list[str]) -> None:
    assert rules(judged(base, head)) == expected


def test_a_finding_of_a_should_counts() -> None:
    head = document({**failing(RELATION, FINDING), "level": "SHOULD"})
    assert rules(judged(document({**RELATION, "level": "SHOULD"}), head)) == ["new-finding"]


def test_slow_gone_and_without_report() -> None:
    speed = Speed({"train": (1.14, 1.16), "sample": (1.0, 1.01)}, slow=("train",))
    (slow,) = judged(document(RELATION), document(RELATION), speed=speed).failures
    assert (slow.rule, slow.text) == (
        "slowdown",
        "a forward in train takes 1.150 times as long as at base, allowed 1.075",
    )
    assert rules(Judgement("mine", "mine:SPEC", vanished=True)) == ["vanished"]
    assert rules(Judgement("mine", "mine:SPEC", why="x", cannot="ledger x: not valid TOML")) == ["ledger"]
    assert rules(Judgement("mine", "mine:SPEC", why="x", cannot="no report, exit status 9")) == ["cannot-run"]


def test_a_requirement_with_a_finding_is_not_told_twice() -> None:
    base, head = document(RELATION, LOGITS), document(FAILS, {**LOGITS, "verdict": "BLOCKED", "cause": "x is not met"})
    first, second = judged(base, head).failures
    assert first.text == "mask/relation in train: blocks.0: relation: got 7 wrong cells, want the layout's relation"
    assert second.text == "1 met before, now BLOCKED (x is not met): parity/logits in train"


def test_the_summary_leads_with_what_is_newly_declared() -> None:
    base = document(RELATION, LOGITS)
    head = document(DEVIATES, failing(LOGITS, {**FINDING, "at": "logits"}))
    lines = ten(held(judged(base, head)))
    assert lines == [
        "`mine` declares `mask/relation` `relation` at `blocks.0`, because fused",
        "**FAIL** `mine` parity/logits in train: logits: relation: got 7 wrong cells, want the layout's relation",
    ]


def test_ten_lines_whatever_happens() -> None:
    many = [{"requirement": f"parity/{chr(97 + n)}", "layout": "train"} for n in range(14)]
    whole = held(judged(document(*many), document(*(failing(one, FINDING) for one in many))))
    assert len(list(lead(whole))) == 14
    assert len(ten(whole)) == TEN
    assert ten(whole)[-1] == "and 5 more, below"
    assert verdict(whole).startswith("gate: FAIL, 14 reasons; 1 of 1 adapters ran (main (aaaaaaaaaa) to HEAD (bbbb")


def test_the_table_and_what_stands_behind_it() -> None:
    speed = Speed({"train": (0.99, 1.01)})
    other = Judgement("other", "other:SPEC")
    text = render(held(judged(document(FAILS), document(FAILS), speed=speed), other, notes=("said",)))
    assert "| `mine` | pass | 2/2 MUST | 2/2 MUST | 0 new, 0 gone | 0 new, 0 gone | 0 | `train` 1.000 |" in text
    assert "| `other` | not affected |" in text
    assert "*said*" in text
    failed = render(held(judged(document(TREE), document(failing(TREE, CHANGED)))))
    assert "```diff\n-a\n+b\n```" in failed
    assert "| `snapshot/hook-tree` | train | MUST | PASS | FAIL |" in failed


def test_text_of_others_formats_nothing() -> None:
    evil = {**FINDING, "got": "</details>\n# |`x`| <img src=x> [a](http://b)", "at": "a`b|c"}
    text = render(held(judged(document(RELATION), document(failing(RELATION, evil)))))
    assert "<img" not in text
    # Inside a line of HTML no Markdown is read.
    assert "[a](" not in re.sub("<summary>.*</summary>", "", text)
    assert "\n# " not in text
    assert text.count("</details>") == text.count("<details>")


def test_cut_after_a_whole_line() -> None:
    text = "".join(f"line {number} ä\n" for number in range(1000))
    short = markdown.cut(text, 500)
    assert len(short.encode()) <= 500
    assert short.endswith(markdown.CUT)
    assert text.startswith(short.removesuffix(markdown.CUT) + "\n")
    assert markdown.cut(text, 100_000) == text


SOURCE = """from adapters import Base

NAMES = {"blocks.{layer}.attn.qkv": "backbone.attn_qkv"}


class Other:
    pass


class Mine(Base):
    def __init__(self):
        self.parts = {"ln1": 1, "o": 2}


SPEC = spec(name="mine", adapter=Mine)
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("blocks.1.attn.qkv.hook_out", 3),
        ("blocks.{layer}.attn.qkv", 3),
        ("blocks.0.ln1.hook_in", 12),
        ("blocks.0.attn.o", 12),
        ("logits", 10),
        ("", 10),
    ],
)
def test_the_line_that_names_the_component(place: str, line: int) -> None:
    assert annotations.locate({"mine.py": SOURCE}, place) == ("mine.py", line)


def test_where_no_class_is() -> None:
    assert annotations.locate({"mine.py": "import x\n\nSPEC = 1\n"}, "logits") == ("mine.py", 3)
    assert annotations.locate({"mine.py": "SPEC = (\n"}, "logits") == ("mine.py", 1)
    named = {"spec.py": "SPEC = spec(adapter='pkg.other:Mine')\n", "other.py": SOURCE}
    assert annotations.locate(named, "logits") == ("other.py", 10)


def test_annotations_are_at_most_ten_lines_that_github_reads() -> None:
    many = [{"requirement": f"parity/{chr(97 + n)}"} for n in range(12)]
    odd = {**FINDING, "got": "50% of\nthem"}
    found = held(judged(document(*many), document(*(failing(one, odd) for one in many))), sources={"mine.py": SOURCE})
    shown = annotations.at_most(list(annotated(found, "sub/")))
    assert len(shown) == 10
    assert shown[0].command() == (
        "::error file=sub/mine.py,line=10,title=conformance of mine%3A new-finding::"
        "parity/a: blocks.0: relation: got 50%25 of%0Athem, want the layout's relation"
    )
    assert shown[-1].text.endswith("(and 2 more, in the job summary)")


def test_a_ledger_that_cannot_be_read_is_shown_in_the_ledger() -> None:
    said = "ledger src/mine.deviations.toml, entry 2: because = 'TODO' is no reason; say why"
    ledger = '# mine\n[[deviation]]\nat = "a"\n\n[[deviation]]\nat = "b"\n'
    found = held(Judgement("mine", "mine:SPEC", why="x", cannot=said), ledgers={"src/mine.deviations.toml": ledger})
    (shown,) = annotated(found)
    assert (shown.file, shown.line) == ("src/mine.deviations.toml", 5)


class Once(Runner):
    """Runs a script in pytest's stead."""

    script = ""

    def run(self, command: Any, tree: Tree, folder: Path) -> tuple[int, str]:
        return super().run([sys.executable, "-c", self.script], tree, folder)


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("import os; print('ERROR: ' + os.environ['PYTHONPATH'] + '/x.toml: bad'); exit(4)", "x.toml: bad"),
        ("print('Killed'); exit(9)", "no report, exit status 9: Killed"),
        ("exit(3)", "no report, exit status 3: nothing was said"),
    ],
)
def test_a_run_without_report_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, line: str) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "tree").mkdir()
    (tmp_path / "work").mkdir()
    with Once(tmp_path / "work") as runner:
        runner.script = script
        judged = runner.submit(Tree(tmp_path / "tree"), "key", "mine:SPEC").result()
    assert judged == Judged(None, cannot=line)


@pytest.mark.parametrize(("state", "runs"), [("COMPLETE", 1), ("PARTIAL", 2)])
def test_whole_reports_are_kept_by_content(tmp_path: Path, state: str, runs: int) -> None:
    for name in ("tree", "work", "cache"):
        (tmp_path / name).mkdir()
    tree, count = Tree(tmp_path / "tree"), tmp_path / "count"
    write = f"open({str(count)!r}, 'a').write('.'); open('junit.xml', 'w'); "
    write += f"json.dump({{'verdicts': {{'state': {state!r}}}}}, open('report.json', 'w'))"
    with Once(tmp_path / "work", cache=tmp_path / "cache") as runner:
        runner.script = f"import json; {write}"
        for key in ("same", "same", "other"):
            judged = runner.submit(tree, key, "mine:SPEC").result()
            assert judged.document == {"verdicts": {"state": state}}
    assert len(count.read_text()) == runs + 1


def test_everything_ends_with_the_runner(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    child = "import time; print('here', flush=True); time.sleep(600)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    runner = Runner(tmp_path)
    process = runner.start([sys.executable, "-c", script], Tree(tmp_path / "tree"), tmp_path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "here\n"
    runner.__exit__(KeyboardInterrupt, None, None)
    assert process.returncode == -signal.SIGKILL
    # The child held the pipe open; it ends only when both are gone.
    assert process.stdout.read() == ""
    with pytest.raises(RuntimeError, match="ended"):
        runner.start([sys.executable], Tree(tmp_path / "tree"), tmp_path)
