"""The report: the same bytes for the same truth, whole or absent, and nothing that the schema does not know."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from conformance.report import document

# The same bytes.


def judged(folder: Path, *arguments: str) -> dict[str, Any]:
    """The report of a pytest in a process of its own."""
    path = folder / "report.json"
    off = ("-p", "no:conformance.checks.throughput")
    command = (sys.executable, "-m", "pytest", "--adapter", "bd3lm", *off, "--conform-report", str(path), *arguments)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def alone(warm: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a process without workers."""
    return judged(tmp_path_factory.mktemp("alone"))


WORKERS = {
    "one worker": ("-n", "1"),
    "two workers that share the cases": ("-n", "2", "--dist", "worksteal"),
}


@pytest.mark.parametrize("how", WORKERS)
def test_verdicts_are_the_same_bytes_under_workers(alone: dict[str, Any], tmp_path: Path, how: str) -> None:
    other = judged(tmp_path, *WORKERS[how])
    assert document.canonical(other["verdicts"]) == document.canonical(alone["verdicts"])
    assert other["digest"] == alone["digest"]
    assert list(other["measurements"]["cases"]) == list(alone["measurements"]["cases"])


def test_verdicts_are_the_same_bytes_three_times(alone: dict[str, Any], run: Callable) -> None:
    reports = [alone, run("--adapter", "bd3lm").report, run("--adapter", "bd3lm").report]
    assert len({document.canonical(report["verdicts"]) for report in reports}) == 1
    assert len({json.dumps(report["measurements"]) for report in reports}) == 3


def test_verdicts_name_no_place_on_this_host(alone: dict[str, Any]) -> None:
    text = json.dumps(alone["verdicts"])
    assert str(Path.home()) not in text
    assert str(Path(document.__file__).parents[2]) not in text


# What the schema asks for.


def test_the_report_follows_its_schema_and_its_digest_is_of_its_verdicts(alone: dict[str, Any]) -> None:
    document.validate(alone)
    plain = json.dumps(alone["verdicts"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert alone["digest"] == hashlib.sha256(plain.encode()).hexdigest()


def _first(report: dict[str, Any]) -> dict[str, Any]:
    return report["verdicts"]["adapters"][0]


LOOSE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no digest": lambda report: report.pop("digest"),
    "a digest of another kind": lambda report: report.update(digest="0"),
    "no state": lambda report: report["verdicts"].pop("state"),
    "another state": lambda report: report["verdicts"].update(state="GREEN"),
    "a remark": lambda report: report["verdicts"].update(remark="it is fine"),
    "no adapters": lambda report: report["verdicts"].update(adapters=[]),
    "no results": lambda report: _first(report).pop("results"),
    "another verdict": lambda report: _first(report)["results"][0].update(verdict="SKIP"),
    "a result without verdict": lambda report: _first(report)["results"][0].pop("verdict"),
    "another level": lambda report: _first(report)["results"][0].update(level="MAY"),
    "a percentage": lambda report: _first(report)["summary"].update(score=0.97),
    "another schema": lambda report: report.update(schema="0"),
    "a deviation without a reason": lambda report: _first(report)["results"][0].update(
        declared=[{"code": "x", "at": "y", "got": "1", "want": "2"}]
    ),
}


@pytest.mark.parametrize("how", LOOSE)
def test_a_loose_report_is_none(alone: dict[str, Any], how: str) -> None:
    loose = copy.deepcopy(alone)
    LOOSE[how](loose)
    with pytest.raises(jsonschema.ValidationError):
        document.validate(loose)


def test_a_verdict_that_is_edited_breaks_the_digest(alone: dict[str, Any]) -> None:
    edited = copy.deepcopy(alone)
    _first(edited)["results"][0]["verdict"] = "FAIL"
    document.validate(edited)
    assert hashlib.sha256(document.canonical(edited["verdicts"])).hexdigest() != edited["digest"]


# Whole or absent.


def test_a_report_that_cannot_be_written_is_red_and_leaves_the_old_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pytester.path / "report.json"
    path.write_text("the old one")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    arguments = ("--adapter", "bd3lm", "-k", "fires", "-p", "no:cacheprovider")
    found = pytester.runpytest_inprocess(*arguments, "--conform-report", str(path))
    assert found.ret == 1
    assert f"ERROR: {path}: not written, what stood there still does: No space left on device" in found.outlines
    left = [(file.name, file.read_text()) for file in pytester.path.glob("*report*")]
    assert left == [("report.json", "the old one")]


def test_text_that_is_no_text_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    document.write_text(path, "old")
    with pytest.raises(TypeError):
        document.write_text(path, 3)  # type: ignore[arg-type]
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("report.json", "old")]


def test_text_of_an_adapter_that_is_no_unicode_is_kept(tmp_path: Path) -> None:
    """A file name in an error message may hold a byte that is no character."""
    value = {"got": "name\udc80"}
    document.write_text(tmp_path / "report.json", json.dumps(value, ensure_ascii=False))
    assert json.loads((tmp_path / "report.json").read_text()) == value
    assert json.loads(document.canonical(value)) == value


# Drafts of a ledger.


def test_drafts_declare_once_reasons_are_written(
    pytester: pytest.Pytester, run: Callable, third_party: Callable
) -> None:
    adapter = third_party(ledger=lambda text: "")
    ledger = pytester.path / "mine.deviations.toml"
    ledger.unlink()
    first = run("--adapter", adapter, "--write-deviations", str(ledger))
    assert first.result.ret == 1
    draft = ledger.read_text()
    assert 'at = "blocks.{layer}.' in draft
    assert set(re.findall("because = .*", draft)) == {'because = "TODO"'}

    unwritten = run("--adapter", adapter)
    assert unwritten.result.ret == pytest.ExitCode.USAGE_ERROR
    message = f"ERROR: ledger {ledger}, entry 1: because = 'TODO' is no reason; say in one sentence why it deviates"
    assert message in unwritten.result.errlines

    ledger.write_text(draft.replace("TODO", "the shipped adapter does so"))
    declared = run("--adapter", adapter)
    assert declared.result.ret == 0
    assert "FAIL" not in _first(declared.report)["summary"]["verdicts"]


# On the terminal.


def test_the_summary_fits_one_screen(run: Callable) -> None:
    lines = run("--adapter", "bd3lm", timed=True).result.outlines
    start = next(i for i, line in enumerate(lines) if "conformance of bd3lm" in line)
    end = next(i for i, line in enumerate(lines) if line.endswith("CONFORMS"))
    assert start < end < start + 40
    assert [line for line in lines[start : end + 1] if len(line) > 80] == []


def test_junit_has_what_a_case_is_and_what_came_of_it(run: Callable, pytester: pytest.Pytester) -> None:
    ids = ("conformance.hooks::fires[bd3lm-train]", "conformance.hooks::names")
    run("--adapter", "bd3lm", *ids, "--junitxml", str(pytester.path / "junit.xml"))
    cases = ElementTree.parse(pytester.path / "junit.xml").iter("testcase")
    told = [[(each.get("name"), each.get("value")) for each in case.iter("property")] for case in cases]
    because = "attention is delegated to the model's block, and the symbolic attention component is never called"
    assert told == [
        [("adapter", "bd3lm"), ("requirement", "hooks/names"), ("level", "MUST"), ("verdict", "PASS")],
        [
            *(("adapter", "bd3lm"), ("requirement", "hooks/fires"), ("level", "MUST"), ("layout", "train")),
            *(("verdict", "DEVIATION"), ("because", because)),
        ],
    ]


def test_no_colour_means_no_colour(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PY_COLORS", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run("--adapter", "bd3lm", "-k", "fires").text
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run("--adapter", "bd3lm", "-k", "fires").text


def test_the_badge_has_counts_and_the_model_they_hold_for(run: Callable, model: Path) -> None:
    whole = _first(run("--adapter", "bd3lm", timed=True).report)
    levels = whole["summary"]["levels"]
    assert whole["badge"] == {
        "schemaVersion": 1,
        "label": "bd3lm (miniature)",
        "message": f"{levels['MUST']['of']}/{levels['MUST']['of']} MUST · {levels['SHOULD']['of']}/"
        f"{levels['SHOULD']['of']} SHOULD · {whole['summary']['refused']} refused · "
        f"{whole['summary']['deviations']} deviations",
        "color": "brightgreen",
    }
    asked = ("--checkpoint", str(model), "--trust-remote-code", "-k", "truths")
    part = _first(run("--adapter", "bd3lm", *asked).report)["badge"]
    assert (part["label"], part["message"], part["color"]) == ("bd3lm (checkpoint model)", "no verdict", "lightgrey")
