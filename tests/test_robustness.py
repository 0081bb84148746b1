"""What happens around a run: interrupts, kills, full and read-only disks, two runs at once, files that are broken.

The report is whole or absent, never half. Every run here is a pytest of its own, forked from this process, which has
imported what is heavy; signals are real ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from conformance import checkpoint, seal
from conformance.adapters.bd3lm import SPEC
from conformance.report import document
from conformance.scratch import scratch

LIMIT = 300
"""Seconds after which a run that hangs is given up."""


@dataclass(frozen=True)
class Process:
    """A pytest that runs beside this one, in a process group of its own."""

    pid: int
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, path: Path) -> None:
        """Wait until it has made a file."""
        end = time.perf_counter() + LIMIT
        while not path.exists():
            assert time.perf_counter() < end, self.text
            assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), self.text
            time.sleep(0.01)

    def interrupt(self) -> None:
        """Ctrl-C: every process of the group gets it."""
        os.killpg(self.pid, signal.SIGINT)

    def end(self) -> int:
        """Its exit status, negative where a signal ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def start(warm: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Process]:
    """`start("--adapter", "bd3lm")` in the folder of the test, with the cache of the session or `XDG_CACHE_HOME`."""

    def start(*arguments: object, **env: str) -> Process:
        log = pytester.path / f"log-{len(list(pytester.path.glob('log-*')))}"
        log.touch()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            _run([*map(str, arguments), "-p", "no:cacheprovider"], log, env)
        os.setpgid(pid, pid)
        return Process(pid, log)

    return start


def _run(arguments: list[str], log: Path, env: dict[str, str]) -> NoReturn:
    status = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(LIMIT)
        out = os.open(log, os.O_WRONLY | os.O_APPEND)
        for file in (1, 2):
            os.dup2(out, file)
        sys.stdin = open(os.devnull)  # noqa: SIM115
        sys.stdout, sys.stderr = (open(file, "w", buffering=1, closefd=False) for file in (1, 2))  # noqa: SIM115
        os.environ.update(env)
        tempfile.tempdir = None
        status = int(pytest.main(arguments))
    except KeyboardInterrupt:
        # As the interpreter does with one that nobody caught.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        sys.stdout.flush()
        os._exit(status)


def content(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


CASES = ("--adapter", "bd3lm", "-k", "live_parameters or truths")
REPORT = ("--conform-report", "report.json")

STALL = """
import os, pathlib, time

def stall():
    if not pathlib.Path("stalled").exists():
        pathlib.Path("draft").write_text(str(os.getpid()))
        pathlib.Path("draft").rename("stalled")
        time.sleep({limit})
"""
IN_A_CASE = """
def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.startswith("{case}"):
            judge = item.runtest
            item.runtest = lambda: stall() or judge()
"""
WHILE_WRITING = """
os.fsync = lambda file: stall()
"""


def stalling(pytester: pytest.Pytester, where: str, case: str = "") -> Path:
    """Let runs in this folder stop in the middle; returns the file that they make there, which holds their number."""
    pytester.makeconftest(STALL.format(limit=LIMIT) + where.format(case=case))
    return pytester.path / "stalled"


def drafts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".report")]


# Signals.


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupt_in_the_middle_leaves_a_report_that_says_so(
    pytester: pytest.Pytester, start: Callable, workers: int
) -> None:
    place = pytester.mkdir("tmp")
    stalled = stalling(pytester, IN_A_CASE, "config_truths")
    run = start(*CASES, *REPORT, "-n", workers, TMPDIR=str(place))
    run.until(stalled)
    run.interrupt()
    assert run.end() == pytest.ExitCode.INTERRUPTED
    verdicts = report_of(pytester.path)["verdicts"]
    (adapter,) = verdicts["adapters"]
    assert (verdicts["state"], adapter["summary"]["conforms"]) == ("INCOMPLETE", None)
    assert [result["requirement"] for result in adapter["results"]] in ([], ["loading/live-parameters"])
    assert "INCOMPLETE, no verdict" in run.text
    assert "INTERNALERROR" not in run.text
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_end_while_the_report_is_written_leaves_the_old_one(
    pytester: pytest.Pytester, start: Callable, number: signal.Signals
) -> None:
    (pytester.path / "report.json").write_text("the old one")
    stalled = stalling(pytester, WHILE_WRITING)
    run = start(*CASES, *REPORT)
    run.until(stalled)
    os.killpg(run.pid, number)
    assert run.end() == -number
    assert (pytester.path / "report.json").read_text() == "the old one"
    if number is signal.SIGINT:
        assert drafts(pytester.path) == []


def test_a_worker_that_is_killed_is_replaced_and_makes_the_run_incomplete(
    pytester: pytest.Pytester, start: Callable
) -> None:
    """The other one judges all that was left; but nobody knows why the first one was lost."""
    stalled = stalling(pytester, IN_A_CASE, "live_parameters")
    run = start(*CASES, *REPORT, "-n", "2")
    run.until(stalled)
    os.kill(int(stalled.read_text()), signal.SIGKILL)
    assert run.end() == pytest.ExitCode.TESTS_FAILED
    verdicts = report_of(pytester.path)["verdicts"]
    (adapter,) = verdicts["adapters"]
    assert (verdicts["state"], adapter["summary"]["conforms"]) == ("INCOMPLETE", None)
    assert "loading/config-truths" in [result["requirement"] for result in adapter["results"]]
    assert "crashed while running 'conformance.loading::live_parameters[bd3lm]'" in run.text


def test_what_a_killed_process_leaves_goes_with_the_next(tmp_path: Path) -> None:
    read, write = os.pipe()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            with scratch("some-", tmp_path) as made:
                (made / "file").touch()
                os.write(write, b".")
                time.sleep(LIMIT)
            os._exit(0)
        pids.append(pid)
        os.read(read, 1)
    (tmp_path / "some-thing else").mkdir()
    killed, alive = pids
    before = set(tmp_path.iterdir())
    os.kill(killed, signal.SIGKILL), os.waitpid(killed, 0)
    with scratch("some-", tmp_path) as made:
        assert before - set(tmp_path.iterdir()) != set()
        assert len(list(tmp_path.glob("some-*/file"))) == 1
        assert made.exists()
        assert (tmp_path / "some-thing else").exists()
    os.kill(alive, signal.SIGKILL), os.waitpid(alive, 0)
    with scratch("some-", tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["some-thing else"]


# Disks.


@pytest.fixture
def disk(pytester: pytest.Pytester) -> Iterator[Path]:
    """A disk of 64 KiB, where this process may mount one."""
    place = pytester.mkdir("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    with (disk / "taken").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))


def test_a_report_on_a_disk_that_is_full_is_absent(start: Callable, disk: Path) -> None:
    (disk / "report.json").write_text("the old one")
    fill(disk)
    run = start(*CASES, "--conform-report", disk / "report.json")
    assert run.end() == 1
    assert f"ERROR: {disk}/report.json: not written, what stood there still does: No space left on device" in run.text
    assert (disk / "report.json").read_text() == "the old one"
    assert drafts(disk) == []


LIMITED = """
import resource
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
"""


def test_a_report_that_is_cut_short_is_absent(pytester: pytest.Pytester, start: Callable) -> None:
    """The system takes a thousand bytes of it and no more."""
    pytester.makeconftest(LIMITED)
    run = start(*CASES, *REPORT)
    assert run.end() == 1
    assert "/report.json: not written, what stood there still does: File too large" in run.text
    assert not (pytester.path / "report.json").exists()
    assert drafts(pytester.path) == []


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_weights_that_cannot_be_kept_are_an_error_of_one_line(start: Callable, disk: Path, how: str) -> None:
    if how == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    run = start(*CASES, XDG_CACHE_HOME=str(disk))
    assert run.end() == 1
    reason = r"(OSError: )?\[Errno \d+\] (No space left on device|Read-only file system): .*"
    place = re.escape(f"{disk}/bridge-conformance: weights cannot be kept there: ")
    told = re.findall(f"(?m)^{place}{reason}; make room, or name another place as XDG_CACHE_HOME$", run.text)
    assert len(told) == 2
    assert "Traceback" not in run.text
    assert not list(disk.rglob(".making-*"))


def test_a_machine_without_room_says_nothing_about_an_adapter(run: Callable, third_party: Callable) -> None:
    full = "raise OSError(28, 'No space left on device')"
    adapter = third_party(f"class Adapter(Shipped):\n    def prepare_model(self, model):\n        {full}\n")
    found = run("--adapter", adapter, "-k", "boots or live_parameters")
    assert found.result.ret == 1
    assert set(found.verdicts("loading/boots").values()) == {"ERROR"}
    assert set(found.verdicts("loading/live-parameters").values()) == {"BLOCKED"}


def test_all_but_the_report_may_be_read_only(start: Callable, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that takes no files can be worked in; a report that is asked for there is refused at once."""
    monkeypatch.chdir(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert start(*CASES).end() == 0
    run = start(*CASES, *REPORT)
    assert run.end() == pytest.ExitCode.USAGE_ERROR
    assert "--conform-report report.json: cannot write there: Read-only file system; name another place" in run.text


# Two at once.


def test_two_runs_at_once_share_folder_report_and_cache(pytester: pytest.Pytester, start: Callable) -> None:
    cache = pytester.mkdir("cache")
    runs = [start(*CASES, *REPORT, XDG_CACHE_HOME=str(cache)) for _ in range(2)]
    assert [run.end() for run in runs] == [0, 0]
    report = report_of(pytester.path)
    assert report["digest"] == document.digest(report["verdicts"])
    assert drafts(pytester.path) == []
    (made,) = (cache / "bridge-conformance").iterdir()
    assert seal.holds(made)


# The cache.

FIXTURE = checkpoint.fixture_folder("bd3lm")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


SPOILT: dict[str, Callable[[Path], object]] = {
    "weights cut short": lambda made: os.truncate(made / "model.safetensors", 1000),
    "weights cut to nothing": lambda made: os.truncate(made / "model.safetensors", 0),
    "one bit of a weight": lambda made: flipped(made / "model.safetensors"),
    "config cut short": lambda made: os.truncate(made / "config.json", 20),
    "another config": lambda made: (made / "config.json").write_text("{}"),
    "code lost": lambda made: (made / "modeling_bd3lm.py").unlink(),
    "a file more": lambda made: (made / "pytorch_model.bin").touch(),
    "no seal": lambda made: (made / seal.NAME).unlink(),
    "emptied": lambda made: [path.unlink() for path in made.iterdir()],
    "a file in its place": lambda made: (shutil.rmtree(made), made.touch()),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_cache_is_made_again(warm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = checkpoint.materialise(FIXTURE, SPEC)
    whole = content(made)
    SPOILT[how](made)
    assert checkpoint.materialise(FIXTURE, SPEC) == made
    assert content(made) == whole
    assert [path.name for path in made.parent.iterdir()] == [made.name]


# A checkpoint that changes meanwhile.

CHANGED = {
    "config.json": "path.write_text(path.read_text() + ' ')",
    "model.safetensors": "path.write_bytes(path.read_bytes())",
    "configuration_bd3lm.py": "path.unlink()",
    "more.py": "path.touch()",
}
CHANGE = """
from pathlib import Path

def change():
    path = Path("model", "{name}")
    {change}

def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.startswith("config_truths"):
            item.runtest = change
"""


@pytest.mark.parametrize("name", CHANGED)
def test_a_checkpoint_that_changes_while_it_is_judged_has_no_report(
    pytester: pytest.Pytester, run: Callable, model: Path, name: str
) -> None:
    pytester.makeconftest(CHANGE.format(name=name, change=CHANGED[name]))
    found = run("--adapter", "bd3lm", "--checkpoint", "model", "--trust-remote-code", "-k", "truths or parameters")
    assert found.result.ret == 1
    assert found.report == {}
    told = f"ERROR: {model}: {name} changed while it was judged; nothing is written, run again once it is finished"
    assert told in found.result.outlines


# Snapshots.

SNAPSHOTS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(b"\x00\xff\xfe" * 100),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a merge that was left": lambda path: path.write_text(f"<<<<<<< HEAD\n{path.read_text()}=======\n>>>>>>> theirs\n"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "lost": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", SNAPSHOTS)
def test_a_broken_snapshot_is_a_finding_and_left_as_it_is(
    pytester: pytest.Pytester, run: Callable, third_party: Callable, how: str
) -> None:
    adapter = third_party()
    SNAPSHOTS[how](pytester.path / "snapshots" / "mine" / "component_map[mine].txt")
    before = content(pytester.path / "snapshots")
    ledger = (pytester.path / "mine.deviations.toml").read_bytes()
    found = run("--adapter", adapter, "-k", "component_map")
    assert found.result.ret == 1
    assert found.verdicts("snapshot/component-map") == {None: "FAIL"}
    assert "--snapshot-update" in found.text
    assert content(pytester.path / "snapshots") == before
    assert (pytester.path / "mine.deviations.toml").read_bytes() == ledger


OUT_OF_ROOM = """
import resource

def judged(judge):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        judge()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.startswith("component_map"):
            judge = item.runtest
            item.runtest = lambda: judged(judge)
"""


def test_an_update_without_room_leaves_the_old_snapshot(
    pytester: pytest.Pytester, start: Callable, third_party: Callable
) -> None:
    pytester.syspathinsert()
    adapter = third_party()
    path = pytester.path / "snapshots" / "mine" / "component_map[mine].txt"
    path.write_text(f"{path.read_text()}one line more\n")
    before = content(path.parent)
    pytester.makeconftest(OUT_OF_ROOM)
    run = start("--adapter", adapter, "-k", "component_map", "--snapshot-update")
    assert run.end() == 1
    assert "File too large" in run.text
    assert content(path.parent) == before


def test_drafts_do_not_replace_what_was_written_meanwhile(
    pytester: pytest.Pytester, run: Callable, model: Path
) -> None:
    pytester.makeconftest(CHANGE.format(name="../mine.toml", change="path.write_text('reasons')"))
    found = run("--adapter", "bd3lm", "-k", "truths or parameters", "--write-deviations", "mine.toml")
    assert found.result.ret == 1
    told = f"ERROR: {pytester.path}/mine.toml: not written, what stood there still does: File exists"
    assert told in found.result.outlines
    assert (pytester.path / "mine.toml").read_text() == "reasons"


# Clocks.

JUMPS = """
import itertools, time

real, jumps = time.time, itertools.cycle((0, 86400, -86400, 3e9, -1e9))
time.time = lambda: real() + next(jumps)
"""


def test_a_clock_that_is_set_changes_no_verdict_and_no_duration(pytester: pytest.Pytester, start: Callable) -> None:
    assert start(*CASES, *REPORT).end() == 0
    steady = report_of(pytester.path)
    pytester.makeconftest(JUMPS)
    assert start(*CASES, *REPORT).end() == 0
    jumping = report_of(pytester.path)
    assert jumping["digest"] == steady["digest"]
    seconds = [case["seconds"] for case in jumping["measurements"]["cases"].values()]
    assert all(0 <= spent < LIMIT for spent in seconds)


def test_nothing_asks_for_the_time_of_day() -> None:
    package = Path(checkpoint.__file__).parent
    asking = re.compile(r"\b(time\.time|time_ns\(|datetime|localtime|gmtime|strftime)\b")
    assert [path.name for path in package.rglob("*.py") if asking.search(path.read_text())] == []
