"""Plans: the matrix that a CI engine takes, made without loading anything, and refused where it would mislead."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fences import block

from conformance import shards
from conformance.commands import main
from conformance.request import make

REVISION = "1" * 40


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The shards that the command prints, all of it one line."""
    assert main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    matrix = json.loads(out)
    assert set(matrix) == {"include"}
    return matrix["include"]


def test_every_adapter_is_judged_once_in_every_environment(capsys: pytest.CaptureFixture[str]) -> None:
    from conformance.adapters import names

    found = planned(capsys, "--adapter", "all", "--versions", "transformers==5.9.0", "transformers==5.23.0")
    pairs = [(shard["adapters"], shard["versions"]) for shard in found]
    versions = ("transformers==5.9.0", "transformers==5.23.0")
    assert pairs == [(name, version) for version in versions for name in names()]
    assert len({shard["id"] for shard in found}) == len(found)


def test_a_shard_says_all_that_a_job_needs(capsys: pytest.CaptureFixture[str]) -> None:
    (shard,) = planned(capsys, "--adapter", "llada@repaired", "--versions", "transformers==5.9.0,torch==2.13.0")
    assert shard["id"].startswith("llada-repaired-torch-2.13.0-transformers-5.9.0-")
    assert (shard["model"], shard["checkpoint"]) == ("miniature llada", "")
    assert shard["versions"] == "torch==2.13.0 transformers==5.9.0"
    assert shlex.split(shard["command"]) == [
        *("python", "-m", "pytest", "--adapter", "llada@repaired"),
        *("--complete", "--conform-report", f"{shard['id']}.json"),
    ]


def test_an_id_does_not_change_with_what_else_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    (alone,) = planned(capsys, "--adapter", "gidd")
    among = {shard["adapters"]: shard for shard in planned(capsys, "--adapter", "all")}["gidd"]
    assert among["id"] == alone["id"]
    assert among["plan"] != alone["plan"]


def test_adapters_may_share_a_shard(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "--adapter", "bd3lm,gidd,llada", "--together", "2")
    assert [shard["adapters"] for shard in found] == ["bd3lm,gidd", "llada"]


def test_what_is_expected_is_what_a_run_expects(capsys: pytest.CaptureFixture[str]) -> None:
    """The digest of the cases covers each of them, and what is left out."""
    from conformance.report.document import expectation

    (shard,) = planned(capsys, "--adapter", "bd3lm")
    request = make(["bd3lm"], complete=True)
    cases = [(case.requirement.id, str(case.requirement.level), case.layout) for case in request.cases()]
    left_out = request.left_out(request.specs[0])
    assert shard["expects"]["bd3lm"]["cases"] == expectation(cases, left_out)
    assert len({expectation(*it) for it in ((cases, left_out), (cases[1:], left_out), (cases, {}))}) == 3


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; from conformance.commands import main; main(['plan', '--adapter', 'all']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1].split()
    assert "conformance.shards" in modules
    assert {"torch", "transformers", "transformer_lens", "numpy"}.isdisjoint(modules)


# Checkpoints.


def test_a_folder_is_planned_with_the_digests_that_a_run_reports(
    capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    from conformance import checkpoint

    (shard,) = planned(capsys, "--checkpoint", f"bd3lm={model}", "--trust-remote-code")
    assert (shard["model"], shard["checkpoint"], shard["fetch"]) == ("checkpoint model", str(model), "")
    expected = shard["expects"]["bd3lm"]
    assert expected["code"] == checkpoint.content_key(model)
    assert expected["weights"] == checkpoint.weights_key(model)
    assert f"--checkpoint {model} --trust-remote-code --complete" in shard["command"]
    # One more requirement can be judged on a checkpoint.
    assert expected["cases"] != planned(capsys, "--adapter", "bd3lm")[0]["expects"]["bd3lm"]["cases"]


def test_a_repository_at_a_revision_need_not_be_here(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"owner/bd3lm@{REVISION}"
    own, other = planned(
        capsys, "--adapter", "bd3lm", "--checkpoint", f"bd3lm={name}", "--trust-remote-code", "--together", "9"
    )
    assert (own["model"], other["model"]) == ("miniature bd3lm", f"checkpoint {name}")
    assert (other["expects"]["bd3lm"]["code"], other["expects"]["bd3lm"]["weights"]) == (None, None)
    assert (own["fetch"], other["fetch"]) == ("", name)


def of_page(number: int) -> list[str]:
    """Arguments of a command of docs/ci.md that writes the plan into a file."""
    command, _, file = block("docs/ci.md", "sh", number).rpartition(" > ")
    program, name, *arguments = shlex.split(command)
    assert (program, name, file) == ("conformance", "plan", "plan.json\n")
    return arguments


def test_the_page_plans_every_adapter_in_two_environments(capsys: pytest.CaptureFixture[str]) -> None:
    from conformance.adapters import names

    found = planned(capsys, *of_page(3))
    assert len(found) == 2 * len(names())


def test_the_page_plans_real_weights(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [each.replace("@REV", f"@{REVISION}") for each in of_page(5)]
    (only,) = planned(capsys, *arguments)
    assert (only["fetch"], only["model"]) == (f"OWNER/MODEL@{REVISION}", f"checkpoint OWNER/MODEL@{REVISION}")


def test_an_adapter_without_a_miniature_is_judged_on_the_checkpoint_of_its_spec(
    capsys: pytest.CaptureFixture[str], spec: Callable[..., str], pytester: pytest.Pytester
) -> None:
    pytester.syspathinsert()
    mine = spec(f"checkpoint='owner/bd3lm@{REVISION}', fixture=None")
    (shard,) = planned(capsys, "--adapter", f"bd3lm,{mine}", "--together", "2", "--trust-remote-code")
    assert (shard["adapters"], shard["checkpoint"]) == (f"bd3lm,{mine}", "")
    assert shard["model"] == f"miniature bd3lm, checkpoint owner/bd3lm@{REVISION}"
    assert shard["fetch"] == f"owner/bd3lm@{REVISION}"
    assert list(shard["expects"]) == ["bd3lm", "mine"]


# What is refused.

TRUSTED = ("--trust-remote-code",)
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "nothing to judge; name adapters with --adapter, or ADAPTER=CHECKPOINT with --checkpoint"),
    "an unknown adapter": (("--adapter", "gid"), "--adapter: unknown adapter 'gid'; did you mean gidd"),
    "nobody in a shard": (("--adapter", "gidd", "--together", "0"), "--together 0: a shard judges at least one"),
    "a checkpoint of nobody": (
        ("--checkpoint", "owner/name@1", *TRUSTED),
        "--checkpoint owner/name@1: want ADAPTER=DIR or ADAPTER=OWNER/NAME@REV; say which adapter it is for",
    ),
    "a checkpoint of all": (
        ("--checkpoint", "all=owner/name@1", *TRUSTED),
        "--checkpoint all=owner/name@1: is one model, so it goes with one adapter; name it once for each",
    ),
    "no revision": (
        ("--checkpoint", "bd3lm=owner/name", *TRUSTED),
        "--checkpoint owner/name: shards on several machines may find several revisions; pin one as owner/name@REV",
    ),
    "no folder": (
        ("--checkpoint", "bd3lm=./nowhere", *TRUSTED),
        "--checkpoint ./nowhere: no such folder; name one, or a hub repository as OWNER/NAME@REV",
    ),
    "no trust": (
        ("--checkpoint", "bd3lm=owner/name@1"),
        "--checkpoint owner/name@1: holds code of its own; add --trust-remote-code to run it",
    ),
    "a checkpoint twice": (
        ("--checkpoint", "bd3lm=owner/name@1", "bd3lm=owner/name@1", *TRUSTED),
        "bd3lm on checkpoint owner/name@1: planned twice, and no one could tell their reports apart",
    ),
    "a range": (
        ("--adapter", "gidd", "--versions", "transformers>=5.9"),
        "--versions transformers>=5.9: is no exact version; write one like transformers==5.9.0",
    ),
    "any patch": (
        ("--adapter", "gidd", "--versions", "transformers==5.9.*"),
        "--versions transformers==5.9.*: is no exact version; write one like transformers==5.9.0",
    ),
    "no version": (
        ("--adapter", "gidd", "--versions", "transformers=5.9.0"),
        "--versions 'transformers=5.9.0': cannot be read; write one like transformers==5.9.0",
    ),
    "an empty version": (("--adapter", "gidd", "--versions", " "), "--versions ' ': names no version; write one like"),
    "what no report states": (
        ("--adapter", "gidd", "--versions", "tokenizers==0.22.2"),
        "--versions tokenizers==0.22.2: no report states its version; pin some of bridge-conformance, torch,",
    ),
    "two versions of one": (
        ("--adapter", "gidd", "--versions", "torch==2.13.0,torch==2.12.0"),
        "--versions torch==2.13.0,torch==2.12.0: pins torch twice; an environment has one version of it",
    ),
    "pins of different things": (
        ("--adapter", "gidd", "--versions", "transformers==5.9.0", "torch==2.13.0"),
        "--versions: 'transformers==5.9.0' and 'torch==2.13.0' pin different things, so a report might be of either",
    ),
}


@pytest.mark.parametrize("how", BAD)
def test_a_plan_that_would_mislead_is_refused(capsys: pytest.CaptureFixture[str], how: str) -> None:
    arguments, message = BAD[how]
    assert main(["plan", *arguments]) == 4
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"ERROR: {message}")
    assert error.count("\n") == 1


def test_a_checkpoint_of_another_architecture_is_refused(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    assert main(["plan", "--checkpoint", f"gidd={model}", "--trust-remote-code"]) == 4
    assert "architectures is ['BD3LM'], gidd is for " in capsys.readouterr().err


def test_one_version_written_in_two_ways_is_one_environment() -> None:
    found = shards.make(["gidd"], versions=["transformers==5.9", "transformers==5.9.0"])
    assert [shard.versions for shard in found] == ["transformers==5.9"]


def test_more_shards_than_a_matrix_takes_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST", 3)
    assert main(["plan", "--adapter", "bd3lm,gidd,llada,dream"]) == 4
    assert capsys.readouterr().err == "ERROR: 4 shards, and a matrix takes 3; judge more of them --together\n"
    assert main(["plan", "--adapter", "bd3lm,gidd,llada,dream", "--together", "2"]) == 0


# What is read back.


ALTERED: dict[str, Callable[[dict[str, Any]], object]] = {
    "a shard less": lambda plan: plan["include"].pop(),
    "a shard twice": lambda plan: plan["include"].append(plan["include"][0]),
    "another order": lambda plan: plan["include"].reverse(),
    "another model": lambda plan: plan["include"][0]["expects"]["gidd"].update(code="0" * 16),
}


@pytest.mark.parametrize("how", ALTERED)
def test_a_plan_that_was_altered_is_none(tmp_path: Path, how: str) -> None:
    found = shards.make(["gidd", "llada"])
    path = tmp_path / "plan.json"
    path.write_text(shards.text_of(found))
    assert shards.read(path) == found
    plan = json.loads(path.read_text())
    ALTERED[how](plan)
    path.write_text(json.dumps(plan))
    with pytest.raises(shards.PlanError, match="was altered, or shards were taken out; make it again"):
        shards.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"include": [', "no JSON: "),
        ("[]", "no plan; "),
        ("3", "no plan; "),
        ('{"include": []}', "no plan; "),
        ('{"include": [3]}', "no plan; "),
        ('{"include": [{"id": "a"}]}', "no plan; "),
    ],
)
def test_what_is_no_plan_is_said_to_be_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(shards.PlanError) as caught:
        shards.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).endswith("make it again with `conformance plan`")


def test_a_plan_that_is_nowhere_is_said_to_be_nowhere(tmp_path: Path) -> None:
    with pytest.raises(shards.PlanError, match="cannot be read: No such file or directory; make it again"):
        shards.read(tmp_path / "plan.json")
