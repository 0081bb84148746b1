"""A run as a function call: the same pytest session, in this process, printing nothing and leaving no files.

Where transformers was imported before, remote code is copied into its own module cache, as by any boot.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from .finding import Verdict
from .report.document import Document
from .report.terminal import closing, lines
from .request import Request, RequestError, make
from .session import BOOKS, GIVEN
from .spec import AdapterSpec, nearest


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one requirement, in one layout where it has any; `evidence` is its part of the report."""

    requirement: str
    level: str
    layout: str | None
    verdict: Verdict
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of one adapter said; `document` is the whole of it, as `--conform-report` writes it."""

    document: Document

    @property
    def adapter(self) -> Mapping[str, Any]:
        """The adapter's part of the document."""
        (only,) = self.document["verdicts"]["adapters"]
        found: Mapping[str, Any] = only
        return found

    @property
    def conforms(self) -> bool:
        """Whether every MUST is met or its deviation declared."""
        return self.adapter["summary"]["conforms"] is True

    @property
    def results(self) -> Iterator[Result]:
        """Every verdict, in canonical order."""
        for result in self.adapter["results"]:
            verdict = Verdict(result["verdict"])
            yield Result(result["requirement"], result["level"], result.get("layout"), verdict, result)

    def __str__(self) -> str:
        state = self.document["verdicts"]["state"]
        return "\n".join([*lines(self.adapter), closing(self.adapter, state)])


def verify(
    spec: AdapterSpec | str,
    *,
    checkpoint: str | None = None,
    trust_remote_code: bool = False,
    only: Sequence[str] = (),
) -> Report:
    """Judge one adapter by every requirement, on its miniature or on a checkpoint.

    Args:
        spec: a spec, a known adapter's name, or "module:SPEC".
        checkpoint: a folder, or OWNER/NAME@REV out of the local hub cache.
        trust_remote_code: run the modelling code that comes with the checkpoint.
        only: ids of the requirements to judge; the report is PARTIAL then, and has no verdict on the adapter.

    Raises:
        RequestError: the run cannot start; one line says why and what to do.
        RuntimeError: pytest itself could not run; the message is what it printed.
    """
    request = make([spec], checkpoint_name=checkpoint, trust=trust_remote_code)
    nodes = _nodes(request, only)
    given = SimpleNamespace(__name__=GIVEN, request=request, books=None)
    given.pytest_unconfigure = lambda config: setattr(given, "books", config.pluginmanager.get_plugin(BOOKS))
    printed = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as nowhere,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        _no_extra_options(),
    ):
        # No configuration or conftest of the folder that the caller happens to be in, and nothing that writes into it.
        own = ["--adapter", str(spec), "--rootdir", nowhere, "-c", os.devnull, "--noconftest", "--capture=no"]
        pytest.main([*own, "-p", "no:cacheprovider", "-p", "no:benchmark", *nodes], plugins=[given])
    if given.books is None or not given.books.document:
        raise RuntimeError(f"pytest did not run: {printed.getvalue().strip()}")
    return Report(given.books.document)


def _nodes(request: Request, only: Sequence[str]) -> list[str]:
    """How the node ids begin of requirements of this run that are asked for."""
    nodes = {case.requirement.id: case.requirement.node for case in request.cases()}
    for id in only:
        if id not in nodes:
            raise RequestError(f"only: no requirement {id!r} is judged in such a run{nearest(id, nodes)}")
    return [f"{nodes[id]}[" for id in only]


@contextlib.contextmanager
def _no_extra_options() -> Iterator[None]:
    """Leave PYTEST_ADDOPTS out, which could narrow the run."""
    kept = os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ["PYTEST_ADDOPTS"] = kept
