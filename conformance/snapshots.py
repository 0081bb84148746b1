"""Committed snapshots on syrupy: one readable text file per case, beside the adapter's spec."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation

from .finding import Finding

Snapshot = Callable[[Sequence[str]], Iterator[Finding]]
"""`snapshot(lines)`: findings unless the lines are those that are committed for the case."""

MOST = 20
"""Changed lines shown in a finding."""


class TextFiles(SingleFileSnapshotExtension):
    """One `.txt` per case, named like it, in the folder of the adapter that it belongs to.

    `folders` is filled for the run by node id: syrupy hands over classes, not instances, and on the main
    process of a distributed run it knows nothing of an item but its id.
    """

    _write_mode = WriteMode.TEXT
    file_extension = "txt"
    folders: ClassVar[dict[str, Path]] = {}

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        """The adapter's snapshot folder; below a user's own test file, where syrupy looks too, there is none."""
        return str(cls.folders.get(str(test_location.nodeid)) or Path(test_location.filepath) / "none")

    @classmethod
    def discovery_dirname(cls, *, test_location: PyTestLocation) -> str:
        """The same folder, so that other adapters' files are never looked at."""
        return cls.dirname(test_location=test_location)

    @classmethod
    def matches_test_location(cls, *args: Any, **kwargs: Any) -> bool:
        """Virtual items have no file for syrupy to relate a folder to."""
        return True


def reader(assertion: Any) -> Snapshot:
    """A `Snapshot` over syrupy's fixture, which updates the file when asked to."""

    def compare(lines: Sequence[str]) -> Iterator[Finding]:
        if assertion.use_extension(TextFiles) != text_of(lines):
            location = assertion.test_location
            yield from differences(Path(TextFiles.get_location(test_location=location, index=0)), lines)

    return compare


def differences(path: Path, lines: Sequence[str]) -> Iterator[Finding]:
    """What a reviewer would see: the lines that changed, none when the file holds just these."""
    name = path.stem.partition("[")[0]
    if not path.exists():
        yield Finding("no-snapshot", name, got="no committed snapshot", want="one; make it with --snapshot-update")
        return
    before = path.read_text(encoding="utf-8").splitlines()
    diff = list(difflib.unified_diff(before, list(lines), lineterm="", n=0))[2:]
    changed = [line for line in diff if not line.startswith("@@")]
    if changed:
        yield Finding(
            "changed",
            name,
            got=f"{len(changed)} changed lines",
            want="the snapshot; accept with --snapshot-update",
            detail="\n".join(changed[:MOST]),
        )


def text_of(lines: Sequence[str]) -> str:
    """The content of a snapshot file."""
    return "\n".join(lines) + "\n"
