"""Shared by all tests: one import of what is heavy, a weight cache of this session, and runs as values."""

from __future__ import annotations

import gc
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs in this process forget the modules they import; torch cannot be imported twice, so it comes first."""
    from conformance.offline import offline

    with pytest.MonkeyPatch.context() as patch, offline():
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # Runs in this process are not workers of a run that is shared out, though this process may be one.
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)
        import torch

        from conformance import checkpoint, judge, mutants, snapshots, timing
        from conformance.adapters.bd3lm import SPEC
        from conformance.report import document
        from conformance.requirement import requirements
        from conformance.session import RARELY

        # The miniatures are too small for more, and threads get into each other's way on a busy machine.
        torch.set_num_threads(1)
        requirements(), mutants.mutants()
        # A boot pulls in what the libraries import late.
        judge.Boot(SPEC, checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC), trusted=True).bridge  # noqa: B018
        _ = (snapshots, timing, document)
        # What the libraries hold stays, and need not be looked through at every collection.
        gc.collect(), gc.freeze(), gc.set_threshold(RARELY, *gc.get_threshold()[1:])
        yield


@dataclass(frozen=True)
class Outcome:
    """One run of pytest as a value."""

    result: pytest.RunResult
    report: dict[str, Any]

    @property
    def text(self) -> str:
        return self.result.stdout.str() + self.result.stderr.str()

    def verdicts(self, requirement: str) -> dict[str | None, str]:
        """Verdicts of one requirement of the only adapter, by layout."""
        (adapter,) = self.report["verdicts"]["adapters"]
        return {r.get("layout"): r["verdict"] for r in adapter["results"] if r["requirement"] == requirement}


@pytest.fixture
def run(pytester: pytest.Pytester) -> Callable[..., Outcome]:
    """`run("--adapter", "bd3lm")` in this process, in an empty folder; without the timed family unless asked."""

    def run(*arguments: str, timed: bool = False) -> Outcome:
        pytester.syspathinsert()
        path = pytester.path / "report.json"
        path.unlink(missing_ok=True)
        off = () if timed else ("-p", "no:conformance.checks.throughput")
        result = pytester.runpytest_inprocess(*arguments, "--conform-report", str(path), *off)
        return Outcome(result, json.loads(path.read_text()) if path.exists() else {})

    return run


SPEC = """
from dataclasses import replace
from conformance.adapters.bd3lm import SPEC as GOOD
from transformer_lens.model_bridge.supported_architectures.bd3lm import BD3LMArchitectureAdapter as Shipped

{body}

SPEC = replace(GOOD, name="{name}", module=__name__, adapter=Adapter)
"""


@pytest.fixture
def third_party(pytester: pytest.Pytester) -> Callable[..., str]:
    """Write a module with an adapter class `Adapter` and its SPEC, with BD3LM's ledger and snapshots beside it.

    Returns what `--adapter` takes. Everything is as good as the shipped adapter but for what `body` changes, and
    `ledger`, a function of the text of the ledger.
    """

    def write(
        body: str = "class Adapter(Shipped):\n    pass",
        name: str = "mine",
        ledger: Callable[[str], str] = lambda text: text,
    ) -> str:
        import conformance.adapters as home

        folder = Path(home.__file__).parent
        module = f"adapter_{name}"
        (pytester.path / f"{module}.py").write_text(SPEC.format(body=textwrap.dedent(body), name=name))
        declared = (folder / "bd3lm.deviations.toml").read_text()
        (pytester.path / f"{name}.deviations.toml").write_text(ledger(declared))
        snapshots = pytester.path / "snapshots" / name
        snapshots.mkdir(parents=True)
        for path in (folder / "snapshots" / "bd3lm").iterdir():
            text = path.read_text().replace("[bd3lm", f"[{name}")
            (snapshots / path.name.replace("[bd3lm", f"[{name}")).write_text(text)
        return f"{module}:SPEC"

    return write


@pytest.fixture
def miniature() -> Path:
    """The bundled BD3LM miniature with its weights."""
    from conformance import checkpoint
    from conformance.adapters.bd3lm import SPEC

    return checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC)


@pytest.fixture
def spec(pytester: pytest.Pytester) -> Callable[..., str]:
    """`spec("fixture=None")`: write `mine.py`, BD3LM's spec with other fields; returns what `--adapter` takes."""

    def spec(fields: str = "", folder: Path = pytester.path, name: str = "mine") -> str:
        source = f"{PREAMBLE}SPEC = replace(GOOD, name={name!r}, module=__name__, {fields})\n"
        (folder / "mine.py").write_text(source)
        return "mine:SPEC"

    return spec


PREAMBLE = """
from dataclasses import replace
from conformance.adapters.bd3lm import SPEC as GOOD, TRAIN
from conformance.spec import *

"""


@pytest.fixture
def model(pytester: pytest.Pytester, miniature: Path) -> Path:
    """A copy of the miniature that may be broken."""
    return Path(shutil.copytree(miniature, pytester.path / "model"))


def content(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def refused(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`refused(message, *arguments)`: pytest ends with that one line and status 4, and leaves every file as it was.

    A `*` in the message stands for what another library words.
    """

    def refused(message: str, *arguments: object) -> None:
        pytester.syspathinsert()
        # Python compiles a user's own modules where they lie; that is not ours.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        before = content(pytester.path)
        result = pytester.runpytest_inprocess(*map(str, arguments))
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        *others, last = [line for line in result.errlines if line]
        assert others == []
        assert re.fullmatch(re.escape(f"ERROR: {message}").replace(r"\*", ".*"), last), last
        assert "Traceback" not in result.stdout.str()
        assert content(pytester.path) == before

    return refused
