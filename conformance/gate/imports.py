"""Which files of a tree a module rests on, read from its syntax: nothing is imported.

Specs name functions and adapters as text, "module:name", which no import graph of statements knows, and an adapter may
be a single module at the top of its repository; so every string that spells a module of the tree counts as an import
of it. Too much is found rather than too little.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .tree import Tree

SPELT = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)(:[\w.]+)?")
"""A string that may be a module, or a name in one."""


def closure(tree: Tree, module: str) -> set[Path]:
    """Files of the tree that importing a module may execute, its own and those of the packages around it among them."""
    found: set[Path] = set()
    waiting = [module]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = tree.file_of(name)
        if path is None:
            continue
        found.add(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [name.rpartition(".")[0], *mentioned(path, package)] if "." in name else mentioned(path, package)
    return found


def mentioned(path: Path, package: str) -> Iterator[str]:
    """Modules that a file may import, with names that turn out to be none; a file that cannot be parsed has none."""
    for node in ast.walk(parsed(path) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            spelt = SPELT.fullmatch(node.value)
            if spelt:
                yield spelt["module"]


def strings(path: Path) -> set[str]:
    """Every string constant of a file, and the parts of those that are paths."""
    walked = ast.walk(parsed(path) or ast.Module([], []))
    values = [node.value for node in walked if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {part for value in values for part in (value, *value.split("/"))}


def texts(tree: Tree, module: str) -> dict[str, str]:
    """The text of these files by path, the module's own first; empty where the module is not of the tree."""
    own = tree.file_of(module)
    files = sorted(closure(tree, module), key=lambda path: (path != own, path))
    return {tree.relative(path): tree.text(path) for path in files}


def parsed(path: Path) -> ast.Module | None:
    """The syntax of a file, `# type:` comments with it, which TorchScript reads; None where it is missing or broken."""
    try:
        return ast.parse(path.read_bytes(), type_comments=True)
    except (OSError, SyntaxError, ValueError):
        return None


def same_code(one: Path, other: Path) -> bool:
    """Whether two files differ in comments and layout at most."""
    trees = parsed(one), parsed(other)
    return None not in trees and len({ast.dump(tree) for tree in trees if tree is not None}) == 1


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    above = parts[: len(parts) - (node.level - 1)]
    return ".".join([*above, *([node.module] if node.module else [])])
