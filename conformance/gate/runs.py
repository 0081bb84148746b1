"""Runs of pytest on a tree, each in a process of its own that imports the tree's modules first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from ..report.document import DISTRIBUTIONS, Document
from .tree import Tree

AT_ONCE = 2
"""Runs at a time: one boots a model while the other one judges."""

REPORT, JUNIT = "report.json", "junit.xml"


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one run: its report, or the line that says why there is none."""

    document: Document | None
    junit: str = ""
    cannot: str = ""


@dataclass
class Runner:
    """Runs processes, at most two at once, and ends all of them when it is left."""

    folder: Path
    """An empty folder to work in, where processes that are ended leave what they had made for a while."""
    trust: bool = False
    cache: Path | None = None
    alive: set[subprocess.Popen[Any]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_ONCE))
    count: int = 0
    closed: bool = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        with self.lock:
            self.closed = True
            for process in self.alive:
                end(process)
        self.pool.shutdown()

    def submit(self, tree: Tree, key: str, adapter: str) -> Future[Judged]:
        """Judge an adapter, given as `module:SPEC`, on a tree with the hash `key`; from the cache where it is there."""
        self.count += 1
        return self.pool.submit(self._judge, tree, key, adapter, self.folder / f"run-{self.count}")

    def _judge(self, tree: Tree, key: str, adapter: str, folder: Path) -> Judged:
        kept = None if self.cache is None else self.cache / kept_as(key, adapter, self.trust)
        if kept is not None and (kept / REPORT).is_file():
            return Judged(_read(kept / REPORT), (kept / JUNIT).read_text(encoding="utf-8"))
        folder.mkdir()
        # An empty folder, so that neither side's pytest settings and conftest.py decide what is judged.
        options = ["--complete", "--conform-report", REPORT, f"--junitxml={JUNIT}", "-q", "-p", "no:cacheprovider"]
        options += ["--trust-remote-code"] if self.trust else []
        command = [sys.executable, "-m", "pytest", "--adapter", adapter, "-n", "0", *options]
        status, said = self.run(command, tree, folder)
        if not (folder / REPORT).is_file():
            return Judged(None, cannot=reason(status, said, tree))
        judged = Judged(_read(folder / REPORT), (folder / JUNIT).read_text(encoding="utf-8"))
        if kept is not None and judged.document is not None and judged.document["verdicts"]["state"] == "COMPLETE":
            _keep(folder, kept)
        return judged

    def run(self, command: Sequence[str], tree: Tree, folder: Path) -> tuple[int, str]:
        """Exit status and output of a command whose Python finds the tree's modules first."""
        process = self.start(command, tree, folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            said = process.communicate()[0]
        finally:
            self.ended(process)
        return process.returncode, said

    def start(self, command: Sequence[str], tree: Tree, folder: Path, **pipes: Any) -> subprocess.Popen[Any]:
        """Start a process in a group of its own, which ends with the runner."""
        pipes = {"stdin": subprocess.DEVNULL, "text": True, "errors": "replace", **pipes}
        with self.lock:
            if self.closed:
                raise RuntimeError("the runner has ended")
            env = {**environment(tree), "TMPDIR": str(self.folder)}
            process = subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, **pipes)
            self.alive.add(process)
        return process

    def ended(self, process: subprocess.Popen[Any]) -> None:
        """End what is left of a process and of those that it started."""
        end(process)
        with self.lock:
            self.alive.discard(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process with its group."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(tree: Tree) -> dict[str, str]:
    """The variables of a process that judges a tree: its modules first, and no options of the user's own pytest."""
    before = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = [*map(str, tree.sources), *filter(None, before.get("PYTHONPATH", "").split(os.pathsep))]
    return {**before, "PYTHONPATH": os.pathsep.join(path), "HF_HUB_OFFLINE": "1", "PY_COLORS": "0"}


def reason(status: int, said: str, tree: Tree) -> str:
    """The one line that says why a run gave no report; pytest's own where it refused the request."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    refused = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = refused[-1] if refused else f"no report, exit status {status}: {lines[-1] if lines else 'nothing was said'}"
    return last.replace(f"{tree.root.resolve()}/", "").replace(f"{tree.root}/", "")


def _read(path: Path) -> Document:
    document: Document = json.loads(path.read_text(encoding="utf-8"))
    return document


def _keep(folder: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    draft = kept.with_name(f".{kept.name}-{os.getpid()}")
    draft.mkdir()
    for name in (REPORT, JUNIT):
        shutil.copyfile(folder / name, draft / name)
    try:
        draft.rename(kept)
    except OSError:
        # Another gate was faster; what it kept is of the same tree.
        shutil.rmtree(draft)


def kept_as(tree: str, adapter: str, trust: bool) -> str:
    """What a report depends on: files, adapter, consent, versions and the judge itself."""
    here = Path(__file__).parent.parent
    judge = hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        judge.update(f"{path.relative_to(here)}\0".encode() + path.read_bytes())
    versions: Mapping[str, str] = {name: metadata.version(name) for name in DISTRIBUTIONS}
    told = [tree, adapter, trust, sys.version, versions, judge.hexdigest()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
