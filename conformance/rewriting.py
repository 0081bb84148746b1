"""A copy of a checkpoint with other code: weights are linked, all else is the copy's own."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path


def rewritten(folder: Path, copy: Path, edit: Callable[[str], str]) -> Path:
    """Copy a checkpoint's folder and let `edit` make the text of each of its Python files."""

    def place(source: str, target: str) -> None:
        if Path(source).suffix == ".safetensors":
            Path(target).symlink_to(Path(source).resolve())
        else:
            shutil.copyfile(source, target)

    shutil.copytree(folder, copy, copy_function=place, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    return copy


def beginning_with(line: str) -> Callable[[str], str]:
    """Put a line of code before the first that is executed; only `from __future__` must stay before it."""

    def edit(text: str) -> str:
        future = [
            statement.end_lineno or 0
            for statement in ast.parse(text).body
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        ]
        lines = text.splitlines(keepends=True)
        start = max(future, default=0)
        return "".join([*lines[:start], f"{line}\n", *lines[start:]])

    return edit
