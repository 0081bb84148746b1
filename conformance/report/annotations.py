"""Annotations: what went wrong, at the line of the adapter's source that names the component, as GitHub shows it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..finding import LEDGER_CODES
from ..spec import pattern_of
from .terminal import told

if TYPE_CHECKING:
    from .document import Document

MOST = 10
"""Errors that GitHub shows for one step; it drops the others without a word."""

Sources = Mapping[str, str]
"""Text by path relative to the repository, the file of the adapter's spec first."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One error at a line of a file, or of the whole job where no file is known."""

    file: str
    line: int
    title: str
    text: str

    def command(self) -> str:
        """The line that has GitHub show it."""
        place = f"file={_property(self.file)},line={self.line}," if self.file else ""
        return f"::error {place}title={_property(self.title)}::{_data(self.text)}"


def of(document: Document, sources: Mapping[str, Sources]) -> Iterator[Annotation]:
    """One for every requirement that makes a report red, at what its first finding is about; sources are by adapter."""
    for adapter in document["verdicts"]["adapters"]:
        name = adapter["adapter"]
        for result in adapter["results"]:
            if not _red(result):
                continue
            findings = result.get("findings", ())
            files = sources.get(name, {})
            file, line = locate(files, findings[0]["at"] if findings else "") if files else ("", 0)
            yield Annotation(file, line, f"conformance of {name}: {result['requirement']}", told(result))


def _red(result: Mapping[str, Any]) -> bool:
    """Whether it is not met, and has to be; what is blocked is told with what blocks it."""
    broken = any(finding["code"] in LEDGER_CODES for finding in result.get("findings", ()))
    return result["verdict"] == "ERROR" or (result["verdict"] == "FAIL" and (result["level"] == "MUST" or broken))


def at_most(annotations: Sequence[Annotation], most: int = MOST) -> list[Annotation]:
    """The first ones, the last of which says how many there are beyond it."""
    shown, left = list(annotations[:most]), len(annotations) - most
    if left > 0:
        shown[-1] = replace(shown[-1], text=f"{shown[-1].text}\n(and {left} more, in the job summary)")
    return shown


def locate(sources: Sources, place: str = "") -> tuple[str, int]:
    """File and line of the text that names a place's component, by the longest part of its name, else of the adapter.

    `blocks.0.attn.qkv.hook_out` is looked for as `blocks.{layer}.attn.qkv`, then as `attn.qkv` and `qkv`. The adapter
    is the class that a spec names, else any class, else the spec.
    """
    trees = {file: tree for file, tree in ((file, _parsed(text)) for file, text in sources.items()) if tree}
    if not trees:
        return next(iter(sources), "pyproject.toml"), 1
    texts = {file: dict(_texts(tree)) for file, tree in trees.items()}
    for name in _names(place):
        for file, lines in texts.items():
            if name in lines:
                return file, lines[name]
    return _adapter(trees)


def _names(place: str) -> Iterator[str]:
    """What a component may be called, most telling first."""
    parts = [part for part in pattern_of(place).split(".") if part]
    while parts and parts[-1].startswith("hook_"):
        if len(parts) == 1:
            yield parts[0]
        parts.pop()
    yield from (".".join(parts[first:]) for first in range(len(parts)) if parts[first] != "{layer}")


def _adapter(trees: Mapping[str, ast.Module]) -> tuple[str, int]:
    classes = {node.name: (file, node.lineno) for file, tree in reversed([*trees.items()]) for node in _classes(tree)}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "adapter":
                named = ast.unparse(node.value).strip("'\"").rpartition(":")[2].rpartition(".")[2]
                if named in classes:
                    return classes[named]
    file = next(iter(trees))
    own = [node.lineno for node in _classes(trees[file])]
    specs = [node.lineno for node in trees[file].body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return file, (own or specs[-1:] or [1])[0]


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def _texts(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every string and the first line it stands on."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for node in sorted(found, key=lambda node: -node.lineno):
        yield str(node.value), node.lineno


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
