"""`show`, `list` and `explain`, on one report of what the hooks of an adapter need to be explained."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import conformance
from conformance import adapters, commands
from conformance.report import coverage, document, hook, html
from conformance.request import RequestError
from conformance.requirement import requirements

ROOT = Path(__file__).parent.parent

Says = Callable[..., list[str]]


@pytest.fixture(scope="module")
def report(warm: None) -> dict[str, Any]:
    return conformance.verify("bd3lm", only=hook.NEEDED).document


@pytest.fixture
def path(report: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(document.text_of(report))
    return path


@pytest.fixture
def red(report: dict[str, Any], tmp_path: Path) -> Path:
    """A report in which a mask is wrong at one place, as if a run had said so."""
    verdicts = copy.deepcopy(report["verdicts"])
    (adapter,) = verdicts["adapters"]
    result = next(r for r in adapter["results"] if r["requirement"] == "parity/taps")
    finding = {"code": "value-mismatch", "at": "blocks.1.attn.qkv.hook_out", "got": "1%", "want": "2"}
    result.update(verdict="FAIL", findings=[finding, finding])
    adapter["summary"]["red"] = True
    path = tmp_path / "red.json"
    path.write_text(document.text_of(document.sealed(verdicts, report["measurements"])))
    return path


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """`says("show", path)`: the lines that a command prints, which ends well."""

    def says(*arguments: object) -> list[str]:
        assert commands.main([*map(str, arguments)]) == 0
        return capsys.readouterr().out.splitlines()

    return says


@pytest.fixture
def refuses(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refuses("show", path)`: the one line with which a command says that it cannot."""

    def refuses(*arguments: object) -> str:
        assert commands.main([*map(str, arguments)]) == commands.CANNOT
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        return line.removeprefix("ERROR: ")

    return refuses


# A part of a run, as a function call.


def test_only_what_is_asked_for_is_judged_and_there_is_no_verdict(report: dict[str, Any]) -> None:
    (adapter,) = report["verdicts"]["adapters"]
    assert {result["requirement"] for result in adapter["results"]} == {*hook.NEEDED}
    assert report["verdicts"]["state"] == "PARTIAL"
    assert adapter["summary"]["conforms"] is None
    with pytest.raises(RequestError, match=r"only: no requirement 'hooks/fire' is judged.*did you mean 'hooks/fires'"):
        conformance.verify("bd3lm", only=["hooks/fire"])


# The report again.


def test_the_summary_is_that_of_the_run(report: dict[str, Any], path: Path, says: Says) -> None:
    said = str(conformance.Report(report)).splitlines()
    lines = says("show", path)
    assert lines[0] == " conformance of bd3lm ".center(80, "=")
    assert " ".join(lines[1:]).split() == " ".join(said).split()
    assert max(map(len, lines)) <= 80
    assert len(says("show", path, "-v")) > len(lines)
    assert says("show", path, "--adapter", "bd3lm") == lines


def test_the_page(report: dict[str, Any], path: Path, tmp_path: Path, says: Says, refuses: Callable[..., str]) -> None:
    page, nowhere = tmp_path / "report.html", tmp_path / "no" / "report.html"
    assert says("show", path, "--html", page) == [f"written: {page}"]
    assert page.read_text(encoding="utf-8") == html.render(report)
    told = f"--html {nowhere}: cannot write there: No such file or directory; name a file"
    assert refuses("show", path, "--html", nowhere) == told


def test_words_of_strangers_reach_no_terminal_as_they_are(red: Path, says: Says) -> None:
    found = json.loads(red.read_text(encoding="utf-8"))
    (adapter,) = found["verdicts"]["adapters"]
    failed = next(result for result in adapter["results"] if result["verdict"] == "FAIL")
    failed["findings"][0]["got"] = "\x1b]0;owned\x07 one\ntwo"
    red.write_text(document.text_of(document.sealed(found["verdicts"], found["measurements"])), encoding="utf-8")
    told = "\n".join(says("show", red))
    assert "\x1b" not in told
    assert "\\x1b]0;owned\\x07 one two" in told


def test_the_badge(report: dict[str, Any], path: Path, says: Says) -> None:
    (line,) = says("show", path, "--badge")
    assert json.loads(line) == report["verdicts"]["adapters"][0]["badge"]


def test_a_job_summary(path: Path, red: Path, says: Says) -> None:
    text = "\n".join(says("show", path, "--markdown"))
    assert text.startswith("## Conformance: PARTIAL\n")
    assert "| `bd3lm (miniature)` | no verdict: " in text
    assert "| `train` | 82 | 70 | 6 | 4 | 2 | 0 |" in text
    assert "| `hooks/fires` | `blocks.{layer}.attn.hook_in`, `blocks.{layer}.attn.hook_out` | attention is" in text
    text = "\n".join(says("show", red, "--markdown"))
    assert "RED: " in text
    assert "FAIL parity/taps [train]: blocks.1.attn.qkv.hook_out" in text


def test_annotations_point_at_the_adapter_where_its_source_lies(
    red: Path, path: Path, says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = "FAIL parity/taps [train]: blocks.1.attn.qkv.hook_out: value-mismatch: got 1%25, want 2 (and 1 more)"
    said = f"title=conformance of bd3lm%3A parity/taps::{what}"
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert says("show", path, "--annotations") == []
    assert says("show", red, "--annotations") == [f"::error {said}"]
    source = tmp_path / "project" / "conformance" / "adapters" / "bd3lm.py"
    source.parent.mkdir(parents=True)
    source.write_text('\nNAMES = {"blocks.{layer}.attn.qkv": 1}\n')
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    place = "file=project/conformance/adapters/bd3lm.py,line=2"
    assert says("show", red, "--annotations") == [f"::error {place},{said}"]


def test_what_cannot_be_shown(path: Path, refuses: Callable[..., str], report: dict[str, Any], tmp_path: Path) -> None:
    assert refuses("show", path, "--adapter", "bd3l") == "--adapter bd3l: is not in this report; did you mean 'bd3lm'?"
    (one,) = report["verdicts"]["adapters"]
    two = tmp_path / "two.json"
    verdicts = {**report["verdicts"], "adapters": [one, {**one, "adapter": "other"}]}
    two.write_text(document.text_of(document.sealed(verdicts, report["measurements"])))
    told = f"{two}: a badge is of one adapter, and here are bd3lm, other; add --adapter NAME"
    assert refuses("show", two, "--badge") == told
    told = f"{two}: is on bd3lm, other; add --adapter NAME"
    assert refuses("explain", "hook_embed", "--report", two) == told
    edited = tmp_path / "edited.json"
    edited.write_text(path.read_text().replace('"PASS"', '"FAIL"', 1))
    told = f"{edited}: its digest is not that of its verdicts, so it was altered; fetch or write it again"
    assert refuses("show", edited) == told


def test_the_commands_of_the_page_show_a_run_and_what_it_changes(path: Path, red: Path, tmp_path: Path) -> None:
    """The blocks of docs/ci.md, as bash takes them."""
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(conformance (?:show|diff) .*?)```", page, flags=re.DOTALL)
    stub = tmp_path / "bin" / "conformance"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\nexec {sys.executable} -m conformance "$@"\n')
    stub.chmod(0o755)
    path.rename(tmp_path / "old.json"), red.rename(tmp_path / "report.json")
    step = tmp_path / "step.md"
    env = {**os.environ, "GITHUB_STEP_SUMMARY": str(step), "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    env["PATH"] = f"{stub.parent}:{env['PATH']}"
    shown, changed = (
        subprocess.run(["bash", "-e", "-c", block], cwd=tmp_path, env=env, capture_output=True, text=True)
        for block in blocks
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert step.read_text(encoding="utf-8").startswith("## Conformance: PARTIAL")
    assert shown.stdout.startswith("::error title=conformance of bd3lm%3A parity/taps::")
    assert json.loads((tmp_path / "badge.json").read_text(encoding="utf-8"))["message"] == "no verdict"
    assert (changed.returncode, changed.stderr) == (1, "")
    assert changed.stdout.startswith("## 1 thing got worse")


# What there is.


def test_every_known_adapter_is_listed(says: Says) -> None:
    head, *lines = says("list")
    assert head.split() == ["adapter", "architecture", "shipped", "declared", "layouts"]
    assert [line.split()[0] for line in lines if line[0] != " "] == adapters.names()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["bd3lm"] == ["BD3LM", "yes", "28", "train,", "sample"]
    assert rows["bd3lm-reference"][1:3] == ["no", "0"]
    assert rows["dream@repaired"][1] == "repaired"
    assert max(map(len, lines)) <= 80


def test_an_adapter_that_cannot_be_read_hides_no_other(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "names", lambda: ["bd3lm", "bd3ml"])
    _, one, *other = says("list")
    assert one.startswith("bd3lm ")
    told = " ".join(" ".join(other).split())
    assert told.startswith("bd3ml cannot be read: --adapter: unknown adapter 'bd3ml'; did you mean")


def test_requirements_and_mutants_are_listed_by_family(says: Says, refuses: Callable[..., str]) -> None:
    ids = [line for line in says("list", "--requirements") if line[0] != " "]
    assert ids == [*requirements()]
    ids = [line for line in says("list", "--requirements", "mask") if line[0] != " "]
    assert ids == [id for id in requirements() if id.startswith("mask/")]
    assert "mask/one-row-off, to be noticed by mask/kv-cache" in says("list", "--mutants", "mask")
    assert refuses("list", "--mutants", "maks") == "unknown family 'maks'; did you mean 'mask'?"


def test_lists_and_requirements_need_no_torch() -> None:
    """Seconds, where nothing is judged."""
    asked = "[['list'], ['list', '--mutants'], ['explain', 'hooks/fires']]"
    script = f"import sys; from conformance.commands import main; [main(each) for each in {asked}]"
    script += "; print(sorted({'torch', 'transformers', 'transformer_lens', 'pytest'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_who_has_read_enough() -> None:
    command = [sys.executable, "-m", "conformance", "list", "--mutants"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == commands.BROKEN_PIPE


# What it is about.


def test_a_requirement_is_explained(says: Says) -> None:
    lines = says("explain", "hooks/fires")
    required = requirements()["hooks/fires"]
    text = " ".join(" ".join(lines).split())
    assert lines[:2] == ["hooks/fires", "MUST, since 1, once per layout."]
    assert required.sentence in text
    assert f"why {required.reason} needs hooks/names carries hooks/multiplicity, hooks/steady" in text
    assert "judge it pytest --adapter NAME conformance.hooks::fires" in text
    assert "hooks/advertised-and-dead: A hook can be attached to and never fires" in text
    assert "bd3lm: never-fires at blocks.{layer}.attn.hook_in, blocks.{layer}.attn.hook_out attention is" in text
    assert max(map(len, lines)) <= 80
    assert "carries   all that is judged after it" in says("explain", "loading/boots")
    assert says("explain", "loading/independence")[-1] == "no known adapter declares a deviation of it"


def test_what_has_no_explanation(refuses: Callable[..., str], path: Path) -> None:
    assert refuses("explain", "hook/fires") == "unknown requirement 'hook/fires'; did you mean 'hooks/fires'?"
    told = "mask/one-row-off is a known defect; explain mask/kv-cache, which must notice it"
    assert refuses("explain", "mask/one-row-off") == told
    told = "unknown requirement 'x'; `conformance list --requirements` lists them"
    assert refuses("explain", "x") == told
    assert refuses("explain", "hook_embed") == "hook_embed: a hook is one of an adapter; add --adapter NAME"
    told = "--adapter: hooks/fires is a requirement, the same for all; drop it, or name a hook"
    assert refuses("explain", "hooks/fires", "--adapter", "bd3lm") == told
    told = "blocks.0.hook_atn_out: is no hook of bd3lm; did you mean 'blocks.0.hook_attn_out'?"
    assert refuses("explain", "blocks.0.hook_atn_out", "--report", path) == told
    told = "--layout sampel: is none of bd3lm; did you mean 'sample'?"
    assert refuses("explain", "hook_embed", "--report", path, "--layout", "sampel") == told
    assert refuses("explain", "hook_embed", "--adapter", "all").startswith("--adapter all: are ")
    assert refuses("explain", "hook_embed", "--adapter", "bd3ml").startswith("--adapter: unknown adapter 'bd3ml'; did")


def test_the_promises_of_a_hook_are_those_of_the_coverage() -> None:
    assert sorted(id for ids in hook.PROOFS.values() for id in ids) == sorted(coverage.PROOFS)
    assert {*coverage.PROOFS} > hook.COMPARED
    assert {*hook.TOLD} == {"proven", *coverage.FATES}


def test_a_hook_that_is_proven(path: Path, says: Says) -> None:
    assert says("explain", "blocks.1.hook_resid_post", "--report", path, "--layout", "train") == [
        "blocks.1.hook_resid_post of bd3lm (miniature)",
        "another name of blocks.1.hook_out",
        "",
        "train: proven: fires as declared, with the right tensor; edits and gradients are",
        "  those of the model",
        "  fires     52 of 58 in order, once, with float32 batch 2*n d_model",
        "  firing    proven by hooks/fires, hooks/multiplicity, hooks/order,",
        "            hooks/shapes, hooks/identity",
        "  value     proven by parity/taps, within 8 times what fp32 itself moves it by,",
        "            at least 8 ulps",
        "  edit      proven by interventions/edits, within 8 times what fp32 itself moves",
        "            it by, at least 8 ulps",
        "  gradient  proven by gradients/fires, gradients/taps, within 8 times what fp32",
        "            itself moves it by, at least 8 ulps",
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blocks.1.attn.qkv.hook_out", "of 58 in order, 2 times, with float32 batch n 3*d_model"),
        ("hook_embed", "another name of embed.hook_out"),
        ("embed.hook_out", "also called hook_embed"),
        ("blocks.0.hook_mlp_in", "refused: refuses to be attached to fires refused"),
        ("blocks.0.attn.hook_out", "dead: attaches, and never fires fires never fires firing hooks/fires: declared:"),
        ("blocks.0.hook_attn_out", "value parity/taps: declared: blocks.0.hook_attn_out: value-mismatch: got"),
        ("blocks.0.hook_attn_out", "because the alias points at the raw output projection; its gate is applied"),
        ("blocks.0.hook_attn_out", "gradient gradients/taps: not proven by it, as something that it needs is wrong"),
    ],
)
def test_what_is_said_of_a_hook(name: str, words: str, path: Path, says: Says) -> None:
    lines = says("explain", name, "--report", path, "--layout", "train")
    assert words in " ".join(" ".join(lines).split()), lines
    assert max(map(len, lines)) <= 80


def test_a_hook_is_judged_where_there_is_no_report(
    report: dict[str, Any], path: Path, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def verify(spec: Any, *, only: tuple[str, ...]) -> Any:
        asked.append((spec.name, only))
        return conformance.Report(report)

    monkeypatch.setattr("conformance.verification.verify", verify)
    assert says("explain", "hook_embed", "--adapter", "bd3lm") == says("explain", "hook_embed", "--report", path)
    assert asked == [("bd3lm", hook.NEEDED)]


def test_an_adapter_that_does_not_boot_has_no_hooks(refuses: Callable[..., str]) -> None:
    told = "what hooks dream has is not known: loading/boots is not met, as its ledger declares"
    assert refuses("explain", "hook_embed", "--adapter", "dream") == told


# Two reports.


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every text, number and flag stands in a part of a report."""
    if isinstance(value, (dict, list)):
        each = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, part in each for leaf in leaves(part, (*path, key))]
    return [path]


def test_nothing_that_differs_is_called_nothing(report: dict[str, Any]) -> None:
    """Whatever is another in a result, the difference says that something is."""
    results = report["verdicts"]["adapters"][0]["results"]
    paths = [leaf for leaf in leaves(results) if leaf[1] not in ("requirement", "layout", "verdict")]
    # Of each kind of thing one; a verdict that is another has tests of its own.
    kinds = {tuple(step for step in path if isinstance(step, str))[:4]: path for path in paths}
    assert len(kinds) > 10
    for path in kinds.values():
        other = copy.deepcopy(report)
        part: Any = other["verdicts"]["adapters"][0]["results"]
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = "another"
        assert conformance.diff(report, other), path
    assert not conformance.diff(report, copy.deepcopy(report))
