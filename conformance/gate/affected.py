"""Which adapters a change can affect, from the files that differ; when in doubt, an adapter is run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from .imports import closure, same_code, strings
from .tree import Tree

KIT = "conformance"
"""The package that judges; where the repository holds it, any change of it affects every adapter."""

TEXTS = re.compile(r"(.*\.(md|rst)|(.*/)?(LICENSE|CHANGELOG|CITATION)[^/]*|\.git[^/]*|\.github/.*|docs/.*)")
"""Files that no adapter reads."""

OWN = re.compile(r"(?P<folder>.*/)?((?P<ledger>[\w.@-]+)\.deviations\.toml|snapshots/(?P<snapshots>[\w.@-]+)/.+)")
"""Files that belong to the adapter that they are named after, beside its spec."""


@dataclass(frozen=True)
class Sources:
    """What one adapter rests on in one tree: its spec's file and all that this imports."""

    tree: Tree
    module: str

    @cached_property
    def files(self) -> set[str]:
        """Paths as git has them; none where the spec's module is not written here."""
        return {self.tree.relative(path) for path in closure(self.tree, self.module)}

    @cached_property
    def folder(self) -> str:
        """The folder of the spec, where its ledger and snapshots lie."""
        path = self.tree.file_of(self.module)
        return "" if path is None else _folder(self.tree.relative(path))

    @cached_property
    def strings(self) -> set[str]:
        """All text in the code."""
        return {text for name in self.files for text in strings(self.tree.root / name)}


def affected(base: Tree, head: Tree, changed: Sequence[str], adapters: Mapping[str, str]) -> dict[str, str]:
    """The adapters that may behave differently at head, each with the first reason found, by the name it goes by.

    `changed` are paths relative to both trees; `adapters` are the names at head with what they stand for.
    """
    told: dict[str, str] = {}
    sources = {
        name: [Sources(tree, path.partition(":")[0]) for tree in (head, base)] for name, path in adapters.items()
    }
    for path in changed:
        for name in _touched(base, head, path, sources):
            told.setdefault(name, path)
    return {name: told[name] for name in adapters if name in told}


def _touched(base: Tree, head: Tree, path: str, sources: Mapping[str, list[Sources]]) -> Iterator[str]:
    """The adapters that one changed file can affect."""
    fixture = _fixture(path, (head.root, base.root))
    own = OWN.fullmatch(path)
    if fixture is not None:
        yield from _those_that_say(fixture, sources) or sources
    elif path.endswith(".py"):
        if same_code(base.root / path, head.root / path):
            return
        users = [name for name, both in sources.items() if any(path in side.files for side in both)]
        yield from users or (sources if PurePosixPath(path).parts[0] == KIT else ())
    elif own is not None:
        named = own["ledger"] or own["snapshots"]
        beside = [n for n, both in sources.items() if any(side.folder == (own["folder"] or "") for side in both)]
        yield from [named] if named in sources else beside or sources
    elif not TEXTS.fullmatch(path):
        # Data that anything may read, or a setting of the project.
        yield from sources


def _fixture(path: str, roots: Sequence[Path]) -> PurePosixPath | None:
    """The folder shaped like a hub repository that a file lies in, in either tree."""
    for folder in PurePosixPath(path).parents[:-1]:
        if any((root / folder / "config.json").is_file() for root in roots):
            return folder
    return None


def _those_that_say(folder: PurePosixPath, sources: Mapping[str, list[Sources]]) -> list[str]:
    return [name for name, both in sources.items() if any(folder.name in side.strings for side in both)]


def _folder(path: str) -> str:
    parent = PurePosixPath(path).parent.as_posix()
    return "" if parent == "." else f"{parent}/"
