"""Merging: the reports of shards make the report of a single run, byte for byte, or are refused."""

from __future__ import annotations

import copy
import glob
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fences import block

from conformance import joining, shards
from conformance.commands import main
from conformance.report import document

ADAPTERS = "dream,llada"
"""Adapters that do not boot, so that their complete runs take a second; all that is joined is there all the same."""


@dataclass(frozen=True)
class Real:
    """What real runs wrote: a plan, the report of each of its shards, and that of a single run of the same."""

    plan: str
    reports: dict[str, dict[str, Any]]
    single: dict[str, Any]


@pytest.fixture(scope="module")
def real(warm: None) -> Real:
    plan = shards.make([ADAPTERS])
    reports = {shard.id: _ran(shlex.split(shard.command)[3:]) for shard in plan}
    single = _ran(["--adapter", ADAPTERS, "--complete", "--conform-report", "single.json"])
    return Real(shards.text_of(plan), reports, single)


def _ran(arguments: list[str]) -> dict[str, Any]:
    """The report of a pytest in this process, from an empty folder."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            own = ("--rootdir", folder, "-c", os.devnull, "--noconftest", "--capture=no", "-p", "no:cacheprovider")
            assert pytest.main([*arguments, *own, "-q"]) == 0
            return json.loads(Path(arguments[-1]).read_text())
        finally:
            os.chdir(before)


@dataclass
class Desk:
    """A plan and reports as files, which a test may spoil before it merges them."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def reports(self) -> list[Path]:
        return sorted((self.folder / "reports").iterdir())

    def put(self, name: str, report: dict[str, Any]) -> Path:
        path = self.folder / "reports" / f"{name}.json"
        path.write_text(document.text_of(report))
        return path

    def merge(self, *paths: Path) -> tuple[int, str, list[str]]:
        """Exit status, what was printed, and each error."""
        given = map(str, paths or self.reports)
        status = main(["merge", str(self.plan), *given, "--output", str(self.folder / "merged")])
        out, error = self.capsys.readouterr()
        return status, out, error.splitlines()

    def merged(self, name: str = "installed") -> dict[str, Any]:
        return json.loads((self.folder / "merged" / f"{name}.json").read_text())

    def refuses(self, *messages: str, paths: tuple[Path, ...] = ()) -> None:
        """Status 4, these lines and no others, nothing written."""
        status, out, lines = self.merge(*paths)
        assert (status, out) == (4, "")
        assert len(lines) == len(messages), lines
        for line, message in zip(lines, messages, strict=True):
            assert line.startswith("ERROR: ")
            assert message in line
        assert not (self.folder / "merged").exists()


@pytest.fixture
def desk(tmp_path: Path, real: Real, capsys: pytest.CaptureFixture[str]) -> Desk:
    """The real plan and the real reports."""
    found = Desk(tmp_path, capsys)
    (tmp_path / "reports").mkdir()
    found.plan.write_text(real.plan)
    for id, report in real.reports.items():
        found.put(id, report)
    capsys.readouterr()
    return found


def sealed_anew(report: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """A report that says something else, with the digest of what it says: a good one of another run."""
    other = copy.deepcopy(report)
    change(other["verdicts"])
    return document.sealed(other["verdicts"], other["measurements"])


# The one verdict.


def test_the_verdict_is_that_of_a_single_run_byte_for_byte(desk: Desk, real: Real) -> None:
    assert len(real.reports) == 2
    status, _, errors = desk.merge()
    assert (status, errors) == (0, [])
    merged = desk.merged()
    assert document.canonical(merged["verdicts"]) == document.canonical(real.single["verdicts"])
    assert json.dumps(merged["verdicts"]) == json.dumps(real.single["verdicts"])
    assert merged["digest"] == real.single["digest"]
    assert list(merged["measurements"]["cases"]) == list(real.single["measurements"]["cases"])
    assert [path.name for path in (desk.folder / "merged").iterdir()] == ["installed.json"]


def test_the_page_merges_what_lies_there(desk: Desk, real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of docs/ci.md, by a shell's rules."""
    monkeypatch.chdir(desk.folder)
    program, *words = shlex.split(block("docs/ci.md", "sh", 4))
    assert program == "conformance"
    assert main([each for word in words for each in (sorted(glob.glob(word)) if "*" in word else [word])]) == 0
    assert desk.merged()["digest"] == real.single["digest"]


def test_the_order_in_which_reports_are_given_does_not_matter(desk: Desk) -> None:
    first = desk.merge(*desk.reports)[1], desk.merged()
    shutil.rmtree(desk.folder / "merged")
    assert (desk.merge(*reversed(desk.reports))[1], desk.merged()) == first


def test_names_of_files_do_not_matter(desk: Desk, real: Real) -> None:
    one, two = desk.reports
    one.rename(one.with_name("x.json")), two.rename(one)
    assert desk.merge()[0] == 0
    assert desk.merged()["digest"] == real.single["digest"]


def test_measurements_are_added_up(desk: Desk, real: Real) -> None:
    one, other = copy.deepcopy(list(real.reports.values()))
    other["measurements"]["host"]["cores"] = 99
    for report, forwards in ((one, 3), (other, 4)):
        next(iter(report["measurements"]["cases"].values()))["forwards"] = {"subject": forwards}
    for id, report in zip(real.reports, (one, other), strict=True):
        desk.put(id, report)
    assert desk.merge()[0] == 0
    joined = desk.merged()["measurements"]
    assert joined["host"] == {**one["measurements"]["host"], "cores": [one["measurements"]["host"]["cores"], 99]}
    assert joined["models"] == {**one["measurements"]["models"], **other["measurements"]["models"]}
    assert joined["forwards"] == {"subject": 7}
    for family, spent in joined["seconds"].items():
        parts = [report["measurements"]["seconds"][family] for report in (one, other)]
        assert spent == pytest.approx(sum(parts), abs=0.002)
    assert joined["seconds"]["loading"] > 0


def test_one_red_shard_makes_the_verdict_red(desk: Desk, real: Real) -> None:
    finding = {"code": "value-mismatch", "at": "logits", "got": "1", "want": "2"}

    def redden(verdicts: dict[str, Any]) -> None:
        (adapter,) = verdicts["adapters"]
        adapter["summary"]["red"] = True
        adapter["results"][0] |= {"verdict": "FAIL", "findings": [finding]}

    id = next(iter(real.reports))
    desk.put(id, sealed_anew(real.reports[id], redden))
    status, out, errors = desk.merge()
    assert (status, errors) == (1, [])
    lines = out.splitlines()
    assert [line.split(": ")[0] for line in lines[2:4]] == [
        "| `dream (miniature)` | RED",
        "| `llada (miniature)` | does not conform",
    ]
    assert lines[4:7] == ["", "dream (miniature)", ""]
    assert lines[8].endswith(": logits: value-mismatch: got 1, want 2")
    assert (desk.folder / "merged" / "installed.json").exists()


# Refused.


def test_a_missing_shard_is_named_with_its_command(desk: Desk, real: Real) -> None:
    gone = desk.reports[0]
    gone.unlink()
    (command,) = (part["command"] for part in json.loads(real.plan)["include"] if part["id"] == gone.stem)
    desk.refuses(f"{gone.name}: shard without a report; run it: {command}")


def test_without_any_report_every_shard_is_missing(desk: Desk) -> None:
    names = [path.name for path in desk.reports]
    for path in desk.reports:
        path.unlink()
    desk.folder.joinpath("reports").rmdir()
    status = main(["merge", str(desk.plan), "--output", str(desk.folder / "merged")])
    lines = desk.capsys.readouterr().err.splitlines()
    assert status == 4
    assert [line.split(": ")[1] for line in lines] == names


def test_two_reports_of_one_shard_are_refused(desk: Desk, real: Real) -> None:
    first = desk.reports[0]
    other = desk.put("other", real.reports[first.stem])
    desk.refuses(f"{first}, {other}: are all of shard {first.stem}; keep the one that is to count")
    other.unlink()
    desk.refuses(f"{first}, {first}: are all of shard {first.stem}", paths=(*desk.reports, first))


def _set(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda verdicts: verdicts.update(fields)


def _adapter(part: str, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda verdicts: (verdicts["adapters"][0][part] if part else verdicts["adapters"][0]).update(fields)


FOREIGN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another adapter": (_adapter("", adapter="gidd"), "adapter gidd, want dream or llada; it is of another plan"),
    "another model": (
        _adapter("model", label="checkpoint dream", miniature=False),
        "model checkpoint dream, want miniature dream; it is of another plan",
    ),
    "other code": (_adapter("model", code="0" * 16), "digest of the code 0000000000000000, want "),
    "a part of a run": (_set(state="PARTIAL"), "state PARTIAL, want COMPLETE; run the command of the plan to its end"),
    "a run that broke off": (_set(state="INCOMPLETE"), "state INCOMPLETE, want COMPLETE; run the command of the plan"),
    "another contract": (_set(contract="0"), "contract 0, want 1; install one version for plan and shards"),
    "a requirement less": (lambda v: v["adapters"][0]["results"].pop(), "digest of the cases "),
    "another level": (lambda v: v["adapters"][0]["results"][0].update(level="SHOULD"), "digest of the cases "),
    "what was left out": (lambda v: v["adapters"][0]["left_out"].clear(), "digest of the cases "),
}


@pytest.mark.parametrize("how", FOREIGN)
def test_a_foreign_report_is_refused_with_what_is_foreign(desk: Desk, real: Real, how: str) -> None:
    change, message = FOREIGN[how]
    id = next(iter(real.reports))
    path = desk.put(id, sealed_anew(real.reports[id], change))
    desk.refuses(f"{path}: {message}")


def test_a_foreign_report_takes_no_shards_place(desk: Desk, real: Real) -> None:
    """It is foreign, and its shard is missing too."""
    first = desk.reports[0]
    foreign = desk.put("other", sealed_anew(real.reports[first.stem], _adapter("", adapter="gidd")))
    first.unlink()
    desk.refuses(f"{foreign}: adapter gidd", f"{first.name}: shard without a report")


def _cut(text: str) -> str:
    return text[: len(text) // 2]


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "cut short": (_cut, "no JSON, or cut short: "),
    "empty": (lambda text: "", "no JSON, or cut short: "),
    "a verdict changed": (
        lambda text: text.replace('"verdict": "BLOCKED"', '"verdict": "PASS"', 1),
        "its digest is not that of its verdicts, so it was altered; fetch or write it again",
    ),
    "something else": (lambda text: '{"include": []}', "no report of this version: the whole: Additional properties"),
    "of an older schema": (
        lambda text: text.replace('"schema": "1"', '"schema": "0"'),
        "no report of this version: schema: '1' was expected; run it again",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_refused(desk: Desk, how: str) -> None:
    spoil, message = BROKEN[how]
    path = desk.reports[0]
    path.write_text(spoil(path.read_text()))
    desk.refuses(f"{path}: {message}")


def test_a_report_that_is_nowhere_is_refused(desk: Desk) -> None:
    first, second = desk.reports
    desk.refuses("nowhere.json: cannot be read: No such file", paths=(first, second, desk.folder / "nowhere.json"))


def test_everything_that_is_wrong_is_told_at_once(desk: Desk) -> None:
    first, second = desk.reports
    first.write_text("{")
    second.unlink()
    desk.refuses(f"{first}: no JSON", f"{second.name}: shard without a report")


def test_a_run_in_two_environments_is_refused(desk: Desk, real: Real) -> None:
    first, second = (desk.folder / "reports" / f"{id}.json" for id in real.reports)
    versions = real.single["verdicts"]["versions"]
    desk.put(second.stem, sealed_anew(real.reports[second.stem], _set(versions={**versions, "python": "3.99.0"})))
    desk.refuses(f"{second}: python 3.99.0, want {versions['python']} as in {first}; run both in one environment")


def test_an_altered_plan_is_refused(desk: Desk) -> None:
    plan = json.loads(desk.plan.read_text())
    plan["include"].pop()
    desk.plan.write_text(json.dumps(plan))
    desk.refuses(f"{desk.plan}: was altered, or shards were taken out; make it again with `conformance plan`")


def test_nothing_old_stands_beside_what_is_merged(desk: Desk) -> None:
    assert desk.merge()[0] == 0
    before = desk.merged()
    status, out, (line,) = desk.merge()
    assert (status, out) == (4, "")
    assert line.startswith(f"ERROR: --output {desk.folder / 'merged'}: is not empty; name a new folder")
    assert desk.merged() == before


def test_what_cannot_be_written_is_said(desk: Desk) -> None:
    (desk.folder / "merged").write_text("a file")
    status, out, (line,) = desk.merge()
    assert (status, out) == (4, "")
    assert line == f"ERROR: --output {desk.folder / 'merged'}: cannot write there: File exists; name a folder"
    assert (desk.folder / "merged").read_text() == "a file"


# Several environments, and checkpoints.

VERSIONS = ("5.9.0", "5.23.0")


def _in(version: str, **fields: Any) -> Callable[[dict[str, Any]], object]:
    """What the same run would have said with another transformers, as far as versions go."""

    def change(verdicts: dict[str, Any]) -> None:
        verdicts["versions"]["transformers"] = version
        verdicts["adapters"][0]["model"].update(fields)

    return change


@pytest.fixture
def matrix(desk: Desk, real: Real) -> Desk:
    """Both adapters in two environments."""
    plan = shards.make([ADAPTERS], versions=[f"transformers=={version}" for version in VERSIONS])
    desk.plan.write_text(shards.text_of(plan))
    for path in desk.reports:
        path.unlink()
    by_adapter = {report["verdicts"]["adapters"][0]["adapter"]: report for report in real.reports.values()}
    for shard in plan:
        version = shard.versions.partition("==")[2]
        desk.put(shard.id, sealed_anew(by_adapter[shard.adapters], _in(version)))
    return desk


def test_every_environment_gets_its_report_and_all_one_table(matrix: Desk, real: Real) -> None:
    status, out, errors = matrix.merge()
    assert (status, errors) == (0, [])
    names = sorted(path.name for path in (matrix.folder / "merged").iterdir())
    assert names == ["transformers-5.23.0.json", "transformers-5.9.0.json"]
    for version in VERSIONS:
        merged = matrix.merged(f"transformers-{version}")
        assert merged["verdicts"]["adapters"] == real.single["verdicts"]["adapters"]
        assert merged["verdicts"]["versions"]["transformers"] == version
    head, rule, *rows = out.splitlines()
    assert head == "| adapter (model) | transformers==5.9.0 | transformers==5.23.0 |"
    assert rule == "| --- | --- | --- |"
    assert [row.count("does not conform: 1/") for row in rows] == [2, 2]


def test_a_report_under_other_versions_is_refused(matrix: Desk) -> None:
    path = matrix.reports[0]
    matrix.put(path.stem, sealed_anew(json.loads(path.read_text()), _in("5.12.1")))
    matrix.refuses(
        f"{path}: versions transformers==5.12.1, want transformers==5.9.0 or transformers==5.23.0; "
        "install what the plan pins, and run it again"
    )


@pytest.fixture(scope="module")
def checkpointed(warm: None) -> Real:
    """A real run on a folder with weights, beside those on the miniatures."""
    from conformance import checkpoint
    from conformance.adapters.dream import SPEC

    folder = checkpoint.materialise(checkpoint.fixture_folder("dream"), SPEC)
    plan = shards.make(["llada"], [f"dream={folder}"], trust=True)
    reports = {shard.id: _ran(shlex.split(shard.command)[3:]) for shard in plan}
    return Real(shards.text_of(plan), reports, reports[plan[1].id])


def test_a_checkpoint_has_a_report_of_its_own(desk: Desk, checkpointed: Real) -> None:
    desk.plan.write_text(checkpointed.plan)
    for path in desk.reports:
        path.unlink()
    own, other = (desk.put(id, report) for id, report in checkpointed.reports.items())
    assert desk.merge()[0] == 0
    assert {path.stem for path in (desk.folder / "merged").iterdir()} == {"installed", other.stem}
    assert desk.merged(other.stem)["verdicts"] == checkpointed.single["verdicts"]
    assert desk.merged()["verdicts"] == checkpointed.reports[own.stem]["verdicts"]


def test_other_weights_are_another_checkpoint(desk: Desk, checkpointed: Real) -> None:
    desk.plan.write_text(checkpointed.plan)
    for path in desk.reports:
        path.unlink()
    _, path = (desk.put(id, report) for id, report in checkpointed.reports.items())
    desk.put(path.stem, sealed_anew(checkpointed.single, _adapter("model", weights="0" * 16)))
    desk.refuses(f"{path}: digest of the weights 0000000000000000, want ")


def test_a_checkpoint_is_the_same_in_every_environment(desk: Desk, checkpointed: Real) -> None:
    """No one knows beforehand what a repository holds that is elsewhere; its reports must agree."""
    name = f"owner/dream@{'1' * 40}"
    plan = shards.make([], [f"dream={name}"], [f"transformers=={version}" for version in VERSIONS], trust=True)
    desk.plan.write_text(shards.text_of(plan))
    for path in desk.reports:
        path.unlink()
    for shard, version in zip(plan, VERSIONS, strict=True):
        desk.put(shard.id, sealed_anew(checkpointed.single, _in(version, label=f"checkpoint {name}")))
    assert desk.merge()[0] == 0
    shutil.rmtree(desk.folder / "merged")
    moved = _in(VERSIONS[1], label=f"checkpoint {name}", weights="0" * 16)
    first, second = (desk.folder / "reports" / shard.report for shard in plan)
    desk.put(second.stem, sealed_anew(checkpointed.single, moved))
    desk.refuses(f"{second}: {name} is not what it was in {first}; pin its revision, and run both again")


def test_a_local_build_of_a_version_is_that_version() -> None:
    (shard,) = shards.make(["gidd"], versions=["torch==2.13.0"])
    pinned = next(trait for trait in joining.TRAITS if trait.name == "versions")
    assert pinned.fits({"versions": {"torch": "2.13.0+cpu"}}, shard)
    assert not pinned.fits({"versions": {"torch": "2.13.1"}}, shard)
    assert not pinned.fits({"versions": {}}, shard)
