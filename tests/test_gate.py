"""The gate on a real repository: five commits to a third party's adapter, and the answer to each.

Reports are made in this process, of a few requirements; `ci/gate_study.py` holds the same gate whole, as users do.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance import commands, request
from conformance.gate import gate, speed
from conformance.gate.runs import Judged, Runner, reason
from conformance.gate.tree import Tree
from conformance.requirement import Occasion, Requirement, requirements

COMMITS = runpy.run_path(str(Path(__file__).parent.parent / "ci" / "gate_repository.py"))

ANNOTATION = re.compile(
    r"::error file=src/mine/(adapter\.py|mine\.deviations\.toml),line=\d+,"
    r"title=conformance of mine%3A (?P<rule>[a-z-]+)::"
)

JUDGED = {
    "loading/boots",
    "loading/buffers",
    "loading/side-by-side",
    "hooks/fires",
    "hooks/position-axis",
    "mask/relation-tensor",
    "mask/relation",
    "parity/logits",
    "throughput/flops",
    "throughput/operators",
    "snapshot/hook-tree",
    "snapshot/component-map",
}
"""Requirements enough to tell the commits apart; the others are left out as those are that only a checkpoint has."""

REPORTS: dict[str, Judged] = {}
"""By the hash of a tree, so that the base of all commits is judged once."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The repository and its commits by name; at the size of the miniature, a forward takes milliseconds."""
    top = tmp_path_factory.mktemp("repository")
    REPORTS.clear()
    return top, COMMITS["build"](top, fields="    bench={},\n")


@pytest.fixture
def hold(
    repository: tuple[Path, dict[str, str]],
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[list[str], str]]:
    """`hold("good")`: the rules that a commit fails, and the summary."""
    top, commits = repository

    class Here(Runner):
        """Runs pytest in this process."""

        def submit(self, tree: Tree, key: str, adapter: str) -> Future[Judged]:
            if key not in REPORTS:
                REPORTS[key] = judged_here(pytester, tree, adapter)
            done: Future[Judged] = Future()
            done.set_result(REPORTS[key])
            return done

    monkeypatch.setattr(gate, "Runner", Here)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def hold(name: str, *options: str) -> tuple[list[str], str]:
        output = pytester.path / "output"
        arguments = ["--repository", str(top), "--base", commits["base"], "--head", commits[name], "--annotations"]
        status = commands.main(["gate", *arguments, "--output", str(output), *options])
        found = [ANNOTATION.match(line) for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
        assert all(found)
        assert status == bool(found)
        rules = [match["rule"] for match in found if match]
        return list(dict.fromkeys(rules)), (output / "summary.md").read_text()

    return hold


def few() -> dict[str, Requirement]:
    later = Occasion.CHECKPOINT
    return {id: each if id in JUDGED else replace(each, run=later) for id, each in requirements().items()}


def judged_here(pytester: pytest.Pytester, tree: Tree, adapter: str) -> Judged:
    report, junit = pytester.path / "report.json", pytester.path / "junit.xml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "requirements", few)
        for folder in reversed(tree.sources):
            patch.syspath_prepend(folder)
        result = pytester.runpytest_inprocess(
            "--adapter", adapter, "--conform-report", str(report), f"--junitxml={junit}"
        )
    if not report.is_file():
        return Judged(None, cannot=reason(int(result.ret), result.stdout.str() + result.stderr.str(), tree))
    return Judged(json.loads(report.read_text()), junit.read_text())


def test_a_good_commit(hold: Callable[..., Any]) -> None:
    rules, summary = hold("good", "--no-timing")
    assert rules == []
    assert "\n- `mine` speed is not measured: not asked for\n\n|" in summary


def test_a_broken_mask(hold: Callable[..., Any]) -> None:
    rules, summary = hold("breaks a mask")
    assert rules == ["new-finding", "lost"]
    assert "mask/relation in sample" in summary


def test_a_forward_that_is_slower(hold: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # That it takes two is tested where no model has to be imported for it.
    monkeypatch.setattr(speed, "MEASUREMENTS", 1)
    rules, summary = hold("slows the forward")
    assert rules == ["slowdown"], summary
    assert re.search(r"a forward in sample takes \d\.\d{3} times as long as at base", summary)


def test_an_edited_comment(hold: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate.Runner, "submit", None)
    rules, summary = hold("edits a comment")
    assert rules == []
    assert "the change affects no adapter, so none ran" in summary


def test_a_renamed_hook(hold: Callable[..., Any]) -> None:
    rules, summary = hold("renames a hook")
    assert set(rules) == {"hook-tree", "new-finding"}
    assert "and its snapshot did not" in summary


def test_a_renamed_hook_with_its_snapshot(hold: Callable[..., Any]) -> None:
    rules, summary = hold("renames a hook, and its snapshot", "--no-timing")
    assert rules == []
    assert "`mine` declares `hooks/position-axis` `wrong-axis` at `blocks.0.modulation.hook_in`, `blocks.1" in summary


def test_an_entry_without_a_reason(hold: Callable[..., Any]) -> None:
    rules, summary = hold("declares without a reason")
    assert rules == ["ledger"], summary
    assert re.search(r"src/mine/mine\.deviations\.toml, entry \d+: field 'because' is missing", summary)
