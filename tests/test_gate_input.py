"""What the gate refuses, in one line and with status 4, before anything runs; and what it asks of git."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fences import block

from conformance import commands
from conformance.gate import repository
from conformance.gate.repository import Repository

PYPROJECT = '[project.entry-points."conformance.adapters"]\nmine = "mine:SPEC"\n'


def git(folder: Path, *arguments: str) -> str:
    author = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org"}
    author |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in author.items()}
    command = ("git", "-C", str(folder), *arguments)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **author})
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on GitHub."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with two commits, of which the second only adds to its README."""
    top = tmp_path / "repo"
    top.mkdir()
    git(top, "init", "--quiet", "--initial-branch=main")
    for text in ("one", "two"):
        (top / "pyproject.toml").write_text(PYPROJECT)
        (top / "mine.py").write_text("SPEC = 1\n")
        (top / "README.md").write_text(text)
        git(top, "add", "--all")
        git(top, "commit", "--quiet", "-m", text)
    return top


@pytest.fixture
def refused(repo: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """`refused(message, *arguments)`: the gate says that one line and nothing else, with status 4."""

    def refused(message: str, *arguments: object) -> None:
        before = sorted(repo.rglob("*"))
        given = [*map(str, arguments)]
        given += [] if "--repository" in given else ["--repository", str(repo)]
        given += [] if "--base" in given else ["--base", "main~1"]
        assert commands.main(["gate", *given]) == commands.CANNOT
        said = capsys.readouterr()
        assert said.err == f"ERROR: {message.format(repo=repo)}\n"
        assert said.out == ""
        assert sorted(repo.rglob("*")) == before

    return refused


def test_the_commands_of_the_page_hold_the_gate(repo: Path, tmp_path: Path) -> None:
    """The block of docs/ci.md as a shell runs it, in a clone with a change that affects no adapter."""
    clone, programs = tmp_path / "clone", tmp_path / "programs"
    git(tmp_path, "clone", "--quiet", str(repo), str(clone))
    (clone / "README.md").write_text("three")
    git(clone, "commit", "--quiet", "--all", "-m", "three")
    programs.mkdir()
    (programs / "conformance").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m conformance "$@"\n')
    (programs / "conformance").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    command = ("sh", "-e", "-c", block("docs/ci.md", "sh", 1))
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("gate: PASS; the change affects no adapter, so none ran")
    assert "affects no adapter" in (clone / "gate" / "summary.md").read_text()


def test_no_repository(refused: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(
        f"--repository {tmp_path / 'empty'}: git says 'fatal: not a git repository (or any of the parent directories): "
        ".git'; run in a checkout of the adapter repository",
        "--repository",
        tmp_path / "empty",
    )
    refused(
        f"--repository {tmp_path / 'none'}: is no folder; name a checkout of the adapter repository",
        "--repository",
        tmp_path / "none",
    )


@pytest.mark.parametrize(("option", "name"), [("--base", "nowhere"), ("--head", "nowhere"), ("--base", "--help")])
def test_unknown_revision(refused: Callable[..., None], option: str, name: str) -> None:
    message = (
        f"{option} {name}: no such commit in {{repo}}; fetch it, or list what there is with `git log --oneline --all`"
    )
    refused(message, "--base", "main", f"{option}={name}")


def test_a_shallow_clone(refused: Callable[..., None], repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repo}", "shallow")
    base = git(repo, "rev-parse", "main~1")
    refused(
        f"--base {base}: no such commit in {tmp_path / 'shallow'}; this clone is shallow: "
        f"`git fetch --depth=1 origin {base}`, or fetch-depth: 0 in the checkout step",
        "--base",
        base,
        "--repository",
        tmp_path / "shallow",
    )


def test_no_adapters(refused: Callable[..., None], repo: Path) -> None:
    (repo / "pyproject.toml").unlink()
    git(repo, "commit", "--quiet", "--all", "-m", "without")
    (repo / "README.md").write_text("three")
    git(repo, "commit", "--quiet", "--all", "-m", "three")
    refused(
        'neither revision has adapters: [project.entry-points."conformance.adapters"] of pyproject.toml is empty; '
        "write them there, or name one with --adapter module:SPEC",
    )


def test_pyproject_that_cannot_be_read(refused: Callable[..., None], repo: Path) -> None:
    (repo / "pyproject.toml").write_text("[project\n")
    git(repo, "commit", "--quiet", "--all", "-m", "broken")
    refused(
        "pyproject.toml at head: not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 9); "
        "mend it"
    )


@pytest.mark.parametrize("name", ["other", "nowhere:SPEC"])
def test_an_adapter_of_another_repository(refused: Callable[..., None], name: str) -> None:
    refused(
        f"--adapter {name}: is no adapter of this repository, which has mine; name one, or module:SPEC of a file in it",
        "--adapter",
        name,
    )


def test_an_empty_name(refused: Callable[..., None]) -> None:
    refused(
        "--adapter got an empty name; name an adapter of the repository, or leave it out for all", "--adapter", "mine,"
    )


def test_output_that_cannot_be_written(refused: Callable[..., None], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    refused(f"--output {file}: cannot write there: File exists; name another folder", "--output", file)
    refused(
        f"--output {tmp_path / 'a' / 'b'}: cannot write there: No such file or directory; name another folder",
        "--output",
        tmp_path / "a" / "b",
    )
    refused(
        f"--output {tmp_path}: is not empty; name a new folder, so that nothing old stands beside new",
        "--output",
        tmp_path,
    )
    refused(f"--cache {file}: cannot be a folder: File exists; name another place", "--cache", file)


def test_a_change_that_affects_nobody(repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "output"
    (repo / "scratch.txt").write_text("not committed")
    assert commands.main(["gate", "--repository", str(repo), "--base", "main~1", "--output", str(output)]) == 0
    told = capsys.readouterr()
    assert "the change affects no adapter, so none ran" in told.out
    assert "mine: not affected" in told.err
    summary = (output / "summary.md").read_text()
    assert "what is not committed is not judged" in summary
    assert "| `mine` | not affected |" in summary
    assert [path.name for path in output.iterdir()] == ["summary.md"]
    assert git(repo, "worktree", "list").count("\n") == 0


def test_what_base_got_since_is_not_held_against_head(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(repo, "checkout", "--quiet", "-b", "topic", "main~1")
    (repo / "LICENSE").write_text("mine")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "-m", "topic")
    git(repo, "checkout", "--quiet", "main")
    (repo / "mine.py").write_text("SPEC = 2\n")
    git(repo, "commit", "--quiet", "--all", "-m", "three")
    assert commands.main(["gate", "--repository", str(repo), "--base", "main", "--head", "topic"]) == 0
    assert "the change affects no adapter" in capsys.readouterr().out


def test_a_copy_is_what_the_commit_holds(repo: Path, tmp_path: Path) -> None:
    here = Repository.at(repo)
    old = here.revision("--base", "main~1")
    copy = here.copy(old, tmp_path / "copy")
    assert {path.name: path.read_text() for path in copy.iterdir()} == {
        "pyproject.toml": PYPROJECT,
        "mine.py": "SPEC = 1\n",
        "README.md": "one",
    }
    assert git(repo, "status", "--porcelain") == ""
    assert here.changed(old, here.revision("--head", "main")) == ["README.md"]


def test_a_project_in_a_folder_of_its_repository(repo: Path, tmp_path: Path) -> None:
    (repo / "sub").mkdir()
    (repo / "sub" / "pyproject.toml").write_text(PYPROJECT)
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "-m", "sub")
    base = git(repo, "rev-parse", "HEAD")
    (repo / "sub" / "new.py").write_text("")
    (repo / "elsewhere.py").write_text("")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "-m", "more")
    here = Repository.at(repo / "sub")
    assert here.prefix == "sub/"
    old, new = here.revision("--base", base), here.revision("--head", "HEAD")
    assert here.changed(old, new) == ["new.py"]
    assert sorted(path.name for path in here.copy(new, tmp_path / "copy").iterdir()) == ["new.py", "pyproject.toml"]
    with pytest.raises(repository.GateError, match=r"--base main~2: has no folder sub/"):
        here.revision("--base", "main~2")


def test_names_with_anything_in_them(repo: Path) -> None:
    strange = "a b\né.py"
    (repo / strange).write_text("")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "-m", "strange")
    here = Repository.at(repo)
    assert here.changed(here.revision("--base", "main~1"), here.revision("--head", "main")) == [strange]


def test_the_summary_of_a_step(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = tmp_path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    assert commands.main(["gate", "--repository", str(repo), "--base", "main~1"]) == 0
    assert step.read_text().startswith("before\n## gate: PASS; the change affects no adapter")


def test_called_from_a_hook_of_git(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "another"))
    assert Repository.at(repo).top == repo


def test_an_adapter_that_is_gone(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / "pyproject.toml").write_text("[project]\n")
    git(repo, "commit", "--quiet", "--all", "-m", "gone")
    assert commands.main(["gate", "--repository", str(repo), "--base", "main~1", "--annotations"]) == 1
    out = capsys.readouterr().out
    assert "**FAIL** `mine` base has this adapter and head does not" in out
    assert "::error file=pyproject.toml,line=1,title=conformance of mine%3A vanished::" in out
