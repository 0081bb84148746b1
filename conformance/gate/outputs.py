"""What a gate leaves behind: reports, summary, JUnit and badge in a folder, and annotations for GitHub."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..report.annotations import Annotation, locate
from ..report.document import text_of, write_text
from ..report.markdown import cut
from . import GateError
from .gate import Held
from .rules import Failure
from .summary import render

LEDGER = re.compile(r"ledger (?P<file>[^,]+?\.deviations\.toml)(, entry (?P<entry>\d+))?: ")
"""How a ledger that cannot be read is told of."""


def writable(text: str) -> Path:
    """The folder to write to, empty and there; GateError when it cannot be."""
    folder = Path(os.path.expanduser(text)).absolute()
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if any(folder.iterdir()):
            raise GateError(f"--output {text}: is not empty; name a new folder, so that nothing old stands beside new")
    except OSError as error:
        raise GateError(f"--output {text}: cannot write there: {error.strerror}; name another folder") from None
    return folder


def write(held: Held, folder: Path) -> None:
    """`summary.md`, and for every adapter that ran `base.json`, `head.json`, `junit.xml` and `badge.json`."""
    write_text(folder / "summary.md", render(held))
    for name, (base, head) in held.runs.items():
        own = folder / re.sub(r"[^\w.@-]", "_", name)
        own.mkdir()
        if base is not None and base.document is not None:
            write_text(own / "base.json", text_of(base.document))
        if head.document is not None:
            (adapter,) = head.document["verdicts"]["adapters"]
            write_text(own / "head.json", text_of(head.document))
            write_text(own / "junit.xml", head.junit)
            write_text(own / "badge.json", json.dumps(adapter["badge"], ensure_ascii=False) + "\n")


def append_summary(held: Held, path: Path) -> None:
    """Add the summary to the file that GitHub shows, as much of it as it takes."""
    try:
        before = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8") as file:
            file.write(cut(render(held), max(10_000, 900_000 - before)))
    except OSError as error:
        raise GateError(f"GITHUB_STEP_SUMMARY={path}: cannot write there: {error.strerror}; unset it") from None


def annotated(held: Held, prefix: str = "") -> Iterator[Annotation]:
    """One for each failure, at a line of the adapter's source; `prefix` is where the repository has the project."""
    for failure in held.failures:
        file, line = _line_of(held, failure)
        yield Annotation(prefix + file, line, f"conformance of {failure.adapter}: {failure.rule}", failure.text)


def _line_of(held: Held, failure: Failure) -> tuple[str, int]:
    ledger = LEDGER.match(failure.text)
    if ledger:
        return ledger["file"], _entry_line(held.ledgers.get(ledger["file"], ""), int(ledger["entry"] or 0))
    place = failure.evidence[0].at if failure.evidence else ""
    return locate(held.sources.get(failure.adapter, {}), place)


def _entry_line(text: str, entry: int) -> int:
    """The line on which the ledger's n-th entry begins."""
    starts = [number for number, line in enumerate(text.splitlines(), 1) if line.strip() == "[[deviation]]"]
    return starts[entry - 1] if 0 < entry <= len(starts) else 1
