"""Committed snapshots on syrupy: one readable text file per snapshot, beside the adapter's spec."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation

from .finding import Finding

Snapshot = Callable[[str, Sequence[str]], Iterator[Finding]]
"""`snapshot(name, lines)`: findings unless the lines are those that are committed under `name`."""


class TextFiles(SingleFileSnapshotExtension):
    """One `.txt` per snapshot in the folder of the adapter that the node id belongs to.

    `folders` is filled for the run by node id: syrupy hands over classes, not instances, and on the main
    process of a distributed run it knows nothing of an item but its id.
    """

    _write_mode = WriteMode.TEXT
    file_extension = "txt"
    folders: ClassVar[dict[str, Path]] = {}

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        """The adapter's snapshot folder."""
        return str(cls.folders[str(test_location.nodeid)])

    @classmethod
    def discovery_dirname(cls, *, test_location: PyTestLocation) -> str:
        """The same folder, so that other adapters' files are never looked at."""
        return cls.dirname(test_location=test_location)

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: Any = 0) -> str:
        """The snapshot's own name."""
        return str(index)

    @classmethod
    def matches_test_location(cls, *args: Any, **kwargs: Any) -> bool:
        """Virtual items have no file for syrupy to relate a folder to."""
        return True


def reader(assertion: Any) -> Snapshot:
    """A `Snapshot` over syrupy's fixture."""

    def compare(name: str, lines: Sequence[str]) -> Iterator[Finding]:
        text = "\n".join(lines) + "\n"
        kept = assertion.use_extension(TextFiles)(name=name)
        if kept == text:
            return
        path = Path(TextFiles.dirname(test_location=assertion.test_location)) / f"{name}.txt"
        if not path.exists():
            yield Finding("no-snapshot", name, got="no committed snapshot", want="one; make it with --snapshot-update")
            return
        before = path.read_text(encoding="utf-8").splitlines()
        changes = [line for line in difflib.unified_diff(before, list(lines), lineterm="", n=0)][2:]
        changed = [line for line in changes if not line.startswith("@@")]
        yield Finding(
            "changed",
            name,
            got=f"{len(changed)} changed lines",
            want="the snapshot; accept with --snapshot-update",
            detail="\n".join(changed[:20]),
        )

    return compare
