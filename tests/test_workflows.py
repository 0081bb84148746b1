"""Workflows and actions: safe on pull requests of strangers, and their command lines are such as the commands take."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance import commands

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / "ci").glob("*/action.yml"))
PAGE = ROOT / "docs" / "ci.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (*WORKFLOWS, *ACTIONS)}
TEXTS |= {f"docs/ci.md, example {number}": text for number, text in enumerate(EXAMPLES, 1)}
PARSED: dict[str, dict[Any, Any]] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = {(name, job): body for name, found in PARSED.items() for job, body in found.get("jobs", {}).items()}


def steps() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every step, with the file and the job or action that it is of."""
    for (name, job), body in JOBS.items():
        yield from ((name, job, step) for step in body.get("steps", []))
    for name, found in PARSED.items():
        yield from ((name, "", step) for step in found.get("runs", {}).get("steps", []))


RUNS = {
    " / ".join(filter(None, (name, job, step.get("name", step["run"][:20])))): step
    for name, job, step in steps()
    if "run" in step
}
TRIGGERS = {name: found[True] for name, found in PARSED.items() if "jobs" in found}
"""YAML 1.1 reads the word `on` as true."""


def test_there_is_something_to_test() -> None:
    assert {path.stem for path in WORKFLOWS} == {"ci", "gate", "shards"}
    assert {path.parent.name for path in ACTIONS} == {"gate", "setup"}
    assert len(EXAMPLES) >= 3
    assert len(RUNS) == sum("run" in step for _, _, step in steps()) >= 10


# What a stranger's pull request can do: nothing but be judged.


@pytest.mark.parametrize("name", TRIGGERS)
def test_no_workflow_runs_with_the_rights_of_the_repository(name: str) -> None:
    on = TRIGGERS[name]
    assert set(on if isinstance(on, (dict, list)) else [on]) <= {"push", "pull_request", "workflow_call", "schedule"}
    assert "secrets" not in TEXTS[name]
    assert PARSED[name]["permissions"] == {}


@pytest.mark.parametrize("job", JOBS, ids="-".join)
def test_a_job_reads_and_ends(job: tuple[str, str]) -> None:
    body = JOBS[job]
    assert body["permissions"] in ({}, {"contents": "read"})
    # A called workflow has limits of its own.
    assert "uses" in body or 0 < body["timeout-minutes"] <= 120
    if "matrix" in body.get("strategy", {}):
        assert body["strategy"]["fail-fast"] is False


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_newer_push_cancels_the_older_run(name: str) -> None:
    limit = PARSED[name]["concurrency"]
    assert limit["cancel-in-progress"] is True
    assert "github.head_ref || github.run_id" in limit["group"]


def used() -> list[tuple[str, str]]:
    parts = [(name, step["uses"]) for name, _, step in steps() if "uses" in step]
    return parts + [(name, body["uses"]) for (name, _), body in JOBS.items() if "uses" in body]


def test_what_is_used_is_pinned_by_commit_and_says_which_version_that_is() -> None:
    commits: dict[str, set[str]] = {}
    for name, text in used():
        if text.startswith("$/"):
            assert (ROOT / text[2:] / "action.yml").is_file(), text
        elif text.startswith("OWNER/"):
            # This repository, in the examples: wherever it is kept, at whatever commit.
            path, _, commit = text.partition("@")
            where = ROOT / path.partition("/")[2].partition("/")[2]
            assert (where / "action.yml").is_file() or where.is_file(), text
            assert commit == "COMMIT"
        else:
            action, _, commit = text.partition("@")
            assert re.fullmatch(r"[0-9a-f]{40}", commit), (name, text)
            for said in re.findall(rf"uses: {re.escape(text)}(.*)", TEXTS[name]):
                assert re.fullmatch(r" # v\d+\.\d+\.\d+", said), (name, text)
                commits.setdefault(action, set()).add(commit + said)
    assert len(commits) >= 4
    assert {action: found for action, found in commits.items() if len(found) > 1} == {}


def test_no_checkout_leaves_its_token_behind() -> None:
    checkouts = [step for _, _, step in steps() if "actions/checkout" in step.get("uses", "")]
    assert len(checkouts) >= 5
    assert [step for step in checkouts if step["with"].get("persist-credentials") is not False] == []


@pytest.mark.parametrize("name", RUNS)
def test_what_is_run_gets_its_inputs_as_variables(name: str) -> None:
    step = RUNS[name]
    assert "${{" not in step["run"]
    read = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", step["run"]))
    assert read - set(step.get("env", {})) <= {"GITHUB_ACTION_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"}
    assert set(step.get("env", {})) <= read | {"ENVIRONMENT", "PYTHON", "VERSIONS", "REQUIREMENTS"}


def test_what_an_action_hands_to_the_installation_is_what_that_reads() -> None:
    script = (ROOT / "ci" / "install.sh").read_text(encoding="utf-8")
    named = set(re.findall(r"^# ([A-Z]{2,}) ", script, flags=re.MULTILINE))
    assert named == {"ENVIRONMENT", "PYTHON", "VERSIONS", "REQUIREMENTS"}
    installing = [step for step in RUNS.values() if "install.sh" in step["run"]]
    assert len(installing) == 2
    assert [step for step in installing if set(step["env"]) != named] == []


def test_every_input_that_is_given_exists() -> None:
    """Of this repository's own actions and workflows; one that does not is a warning on GitHub and nothing else."""
    inputs = {f"ci/{path.parent.name}": yaml.safe_load(path.read_text())["inputs"] for path in ACTIONS}
    for path in WORKFLOWS:
        on = yaml.safe_load(path.read_text())[True]
        inputs[f".github/workflows/{path.name}"] = (on.get("workflow_call") or {}).get("inputs", {})
    given = [(step["uses"], step.get("with", {})) for _, _, step in steps() if "uses" in step]
    given += [(body["uses"], body.get("with", {})) for body in JOBS.values() if "uses" in body]
    ours = [
        (re.sub(r"^\$/|^OWNER/NAME/|@COMMIT$", "", uses), values)
        for uses, values in given
        if uses.startswith(("$/", "OWNER/"))
    ]
    assert len(ours) >= 6
    for uses, values in ours:
        assert set(values) <= set(inputs[uses]), uses


def test_a_result_of_every_job_is_required() -> None:
    for path in WORKFLOWS:
        jobs = yaml.safe_load(path.read_text())["jobs"]
        *others, last = jobs
        assert jobs[last]["if"] == "always()"
        assert jobs[last]["needs"] == others
        assert jobs[last]["steps"][-1]["env"]["RESULTS"] == "${{ join(needs.*.result, ' ') }}"


@pytest.mark.parametrize(
    ("results", "passes"),
    [
        ("success", True),
        ("success success", True),
        ("success failure", False),
        ("skipped", False),
        ("success cancelled success", False),
        ("", False),
    ],
)
def test_only_success_passes(tmp_path: Path, results: str, passes: bool) -> None:
    checks = [step for name, step in RUNS.items() if name.endswith("All passed")]
    assert len(checks) == 3
    assert checks.count(checks[0]) == 3
    assert (bash(checks[0], tmp_path, RESULTS=results).returncode == 0) is passes


# Command lines, as bash takes them apart.


def bash(step: dict[str, Any], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step the way GitHub does, in an empty folder, with only these variables."""
    path = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    # Only a shell that is asked for minds what fails inside a pipe.
    options = ["--noprofile", "--norc", "-eo", "pipefail"] if step.get("shell") == "bash" else ["-e"]
    command = ["bash", *options, "-c", step["run"]]
    return subprocess.run(command, cwd=folder, env={**path, **variables}, capture_output=True, text=True, check=False)


STUB = """\
#!{python}
import json, pathlib, sys
with open({log!r}, "a") as file:
    file.write(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
"""


@pytest.fixture
def said(tmp_path: Path) -> Any:
    """`said(step, **variables)`: the command lines that a step gives to the programs it calls."""
    (tmp_path / "bin").mkdir()
    log = tmp_path / "log"
    for name in ("conformance", "pytest", "hf", "uvx"):
        stub = tmp_path / "bin" / name
        stub.write_text(STUB.format(python=sys.executable, log=str(log)))
        stub.chmod(0o755)

    def said(step: dict[str, Any], **variables: str) -> list[list[str]]:
        log.unlink(missing_ok=True)
        files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        done = bash(step, tmp_path, **files, **variables)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in log.read_text().splitlines()]

    return said


def step(file: str, name: str) -> dict[str, Any]:
    """The step of a file with this name."""
    (found,) = (step for where, _, step in steps() if where == file and step.get("name") == name)
    return found


GATE = {"BASE": "main", "HEAD": "HEAD", "REPOSITORY": ".", "OUTPUT": "out"}


@pytest.mark.parametrize("adapters", [[], ["mine"], ["mine", "pkg.mod:SPEC"]])
def test_the_gate_is_asked_as_it_can_be(said: Any, adapters: list[str]) -> None:
    ((program, *arguments),) = said(step("ci/gate/action.yml", "Judge"), ADAPTERS=" ".join(adapters), **GATE)
    given = commands.parser().parse_args(arguments)
    assert (program, given.command, given.adapter) == ("conformance", "gate", adapters)
    assert (given.base, given.head, given.repository, given.output) == ("main", "HEAD", ".", "out")


PLANNED = [
    ({"ADAPTERS": "all"}, {"adapter": ["all"], "checkpoint": [], "versions": [], "trust_remote_code": False}),
    (
        {
            "ADAPTERS": "bd3lm mine:SPEC",
            "CHECKPOINTS": "bd3lm=owner/name@1 gidd=owner/other@2",
            "VERSIONS": "transformers==5.9.0,torch==2.13.0 transformers==5.24.0,torch==2.13.0",
        },
        {
            "adapter": ["bd3lm", "mine:SPEC"],
            "checkpoint": ["bd3lm=owner/name@1", "gidd=owner/other@2"],
            "versions": ["transformers==5.9.0,torch==2.13.0", "transformers==5.24.0,torch==2.13.0"],
            "trust_remote_code": True,
        },
    ),
]


@pytest.mark.parametrize(("variables", "want"), PLANNED, ids=["plain", "everything"])
def test_a_plan_is_asked_for_as_it_can_be(said: Any, variables: dict[str, str], want: dict[str, Any]) -> None:
    given = {"CHECKPOINTS": "", "VERSIONS": "", "TOGETHER": "2", **variables}
    ((program, *arguments),) = said(step(".github/workflows/shards.yml", "Plan"), **given)
    parsed = vars(commands.parser().parse_args(arguments))
    assert (program, parsed["command"], parsed["together"]) == ("conformance", "plan", 2)
    assert {name: parsed[name] for name in want} == want


def test_reports_are_merged_as_they_can_be(said: Any, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    for name in ("a", "b"):
        (tmp_path / "reports" / f"{name}.json").touch()
    ((program, *arguments),) = said(step(".github/workflows/shards.yml", "Merge"))
    parsed = commands.parser().parse_args(arguments)
    assert (program, parsed.command, str(parsed.plan)) == ("conformance", "merge", "plan.json")
    assert ([str(path) for path in parsed.reports], str(parsed.output)) == (
        ["reports/a.json", "reports/b.json"],
        "merged",
    )


def test_a_checkpoint_is_fetched_at_its_revision(said: Any) -> None:
    fetch = step(".github/workflows/shards.yml", "Fetch the checkpoints")
    assert said(fetch, FETCH="owner/name@abc owner/other@v1") == [
        ["hf", "download", "owner/name", "--revision", "abc"],
        ["hf", "download", "owner/other", "--revision", "v1"],
    ]


def test_a_refused_merge_and_a_red_shard_fail_their_steps(tmp_path: Path) -> None:
    """With the real commands, in the real shell."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "conformance"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m conformance "$@"\n')
    script.chmod(0o755)
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    variables = {"ADAPTERS": "gidd llada", "CHECKPOINTS": "", "VERSIONS": "", "TOGETHER": "1"}
    planned = bash(step(".github/workflows/shards.yml", "Plan"), tmp_path, **files, **variables)
    assert planned.returncode == 0, planned.stderr
    (line,) = (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()
    matrix = json.loads(line.removeprefix("matrix="))
    assert [shard["adapters"] for shard in matrix["include"]] == ["gidd", "llada"]
    merged = bash(step(".github/workflows/shards.yml", "Merge"), tmp_path, **files)
    assert merged.returncode == 4
    assert merged.stderr.count("shard without a report") == 2
    judge = step(".github/workflows/shards.yml", "Judge")
    assert bash(judge, tmp_path, COMMAND="exit 1").returncode == 1


# Sessions.


NOX = [sys.executable, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py")]


def test_the_sessions_that_are_run_exist(said: Any) -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    lines = [
        *said(step(".github/workflows/ci.yml", "Run the session"), SESSION="lint"),
        *said(step(".github/workflows/ci.yml", "Run the leg"), LEG="leg(a, b)"),
        *said(step(".github/workflows/ci.yml", "One table of all legs")),
    ]
    nox = ["uvx", "--constraints", "ci/constraints.txt", "nox", "--session"]
    assert lines == [[*nox, "lint"], [*nox, "leg(a, b)"], [*nox, "table"]]
    listed = subprocess.run([*NOX, "--list"], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"^[*-] (\S+)", listed, flags=re.MULTILINE))
    assert {*jobs["session"]["strategy"]["matrix"]["session"], "table"} <= names


def test_the_legs_of_the_matrix_become_jobs(tmp_path: Path) -> None:
    """With the real nox, in place of the one that uvx would fetch."""
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "uvx"
    stub.write_text(f'#!/bin/bash\n[ "$3" = nox ] && exec {shlex.join(NOX)} "${{@:4}}"\n')
    stub.chmod(0o755)
    done = bash(step(".github/workflows/ci.yml", "List the legs"), tmp_path, GITHUB_OUTPUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    legs = json.loads((tmp_path / "out").read_text().removeprefix("legs="))
    assert len(legs) >= 3
    assert [leg for leg in legs if not re.fullmatch(r"leg\(transformers-.*, lens-.*\)", leg)] == []


# The page.


def test_the_commands_of_the_page_are_such_as_the_commands_take() -> None:
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("conformance ")
    ]
    parsed = []
    for line in lines:
        words = itertools.takewhile(lambda word: word not in (">", ">>", "|"), shlex.split(line))
        parsed.append(commands.parser().parse_args(list(words)[1:]).command)
    assert {"gate", "plan", "merge", "show", "diff"} <= set(parsed)
