"""Committed snapshots on syrupy: one readable text file per case, beside the adapter's spec."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from syrupy.data import SnapshotCollections
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation

from . import overrides
from .finding import Finding
from .report.document import write_text

Snapshot = Callable[[Sequence[str]], Iterator[Finding]]
"""`snapshot(lines)`: findings unless the lines are those that are committed for the case."""

LAYER = re.compile(r"\bblocks\.(\d+)\.")
"""The number of a layer in a line."""

MOST = 20
"""Changed lines shown in a finding."""


class TextFiles(SingleFileSnapshotExtension):
    """One `.txt` per case, named like it, in the folder of the adapter that it belongs to.

    `folders` is filled for the run by node id, and `known` by folder with the names that some case of the adapter
    has, in this run or another: syrupy hands over classes, not instances, and on the main process of a distributed
    run it knows nothing of an item but its id.
    """

    _write_mode = WriteMode.TEXT
    file_extension = "txt"
    folders: ClassVar[dict[str, Path]] = {}
    known: ClassVar[dict[Path, frozenset[str]]] = {}

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        """The adapter's snapshot folder; below a user's own test file, where syrupy looks too, there is none."""
        return str(cls.folders.get(str(test_location.nodeid)) or Path(test_location.filepath) / "none")

    @classmethod
    def discovery_dirname(cls, *, test_location: PyTestLocation) -> str:
        """The same folder, so that other adapters' files are never looked at."""
        return cls.dirname(test_location=test_location)

    def discover_snapshots(self, *, test_location: PyTestLocation, **options: Any) -> SnapshotCollections:
        """Files that belong to no case at all; what a case has not looked at this time is none the less its own."""
        strays = SnapshotCollections()
        for found in super().discover_snapshots(test_location=test_location, **options):
            path = Path(found.location)
            if path.suffix == f".{self.file_extension}" and path.stem not in self.known.get(path.parent, ()):
                strays.add(found)
        return strays

    @classmethod
    def write_snapshot_collection(cls, *, snapshot_collection: Any, **options: Any) -> None:
        """Put a new text in the place of the old one, as a whole or not at all."""
        (snapshot,) = snapshot_collection
        write_text(Path(snapshot_collection.location), str(snapshot.data))

    @classmethod
    def matches_test_location(cls, *args: Any, **kwargs: Any) -> bool:
        """Virtual items have no file for syrupy to relate a folder to."""
        return True


def reader(assertion: Any) -> Snapshot:
    """A `Snapshot` over syrupy's fixture, which updates the file when asked to, unless an override is in force."""

    def compare(lines: Sequence[str]) -> Iterator[Finding]:
        path = Path(TextFiles.get_location(test_location=assertion.test_location, index=0))
        text = text_of(lines)
        if overrides.in_force(path):
            found = list(differences(path, lines))
            yield from found
            # What reads as it should under this version is no text for the baseline, which counts as met.
            text = path.read_text(encoding="utf-8")
            if found:
                return
        asserted = assertion.use_extension(TextFiles)
        if asserted != text:
            # Of what kept it from writing syrupy tells only in assertions of the user's own.
            failed = asserted.executions[asserted.num_executions - 1].exception
            if isinstance(failed, OSError) and not path.is_dir():
                raise failed
            yield from differences(path, lines)

    return compare


def differences(path: Path, lines: Sequence[str]) -> Iterator[Finding]:
    """What a reviewer would see: the lines that changed, none when the file, with its overrides, holds just these."""
    name = path.stem.partition("[")[0]
    if not path.is_file():
        yield Finding("no-snapshot", name, got="no committed snapshot", want="one; make it with --snapshot-update")
        return
    want = "the snapshot; accept with --snapshot-update"
    try:
        before = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        yield Finding("changed", name, got="bytes that are no text", want=want)
        return
    for entry in overrides.in_force(path):
        if before == list(lines):
            yield Finding("stale", name, got="the baseline", want=f"the lines of {_entry(entry)}; delete it")
            return
        want = f"the snapshot as under {', '.join(entry.versions)}; amend {_entry(entry)}"
        before = entry.applied(before)
    diff = list(difflib.unified_diff(before, list(lines), lineterm="", n=0))[2:]
    changed = [line for line in diff if not line.startswith("@@")]
    if changed:
        detail = "\n".join(_folded(changed, before)[:MOST])
        yield Finding("changed", name, got=f"{len(changed)} changed lines", want=want, detail=detail)


def _folded(changed: Sequence[str], before: Sequence[str]) -> list[str]:
    """Changed lines, those that every layer has as one: what is renamed upstream is renamed in all of them."""
    layers = {number for line in before for number in LAYER.findall(line)}
    patterns: dict[str, list[str]] = {}
    for line in changed:
        patterns.setdefault(LAYER.sub("blocks.{layer}.", line), []).append(line)
    everywhere = {pattern for pattern, lines in patterns.items() if len(lines) == len(layers)}
    return [line for pattern, lines in patterns.items() for line in ([pattern] if pattern in everywhere else lines)]


def _entry(override: overrides.Override) -> str:
    """Where it stands, without the folder, which differs from host to host."""
    return override.where.rpartition("/")[2]


def text_of(lines: Sequence[str]) -> str:
    """The content of a snapshot file."""
    return "\n".join(lines) + "\n"
