"""One revision's files in a folder: the adapters that it offers, and where its modules lie."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..adapters import GROUP
from . import GateError


@dataclass(frozen=True)
class Tree:
    """The files of one revision, below `root`; nothing of them needs to be installed."""

    root: Path
    side: str = "head"

    @property
    def sources(self) -> tuple[Path, ...]:
        """Folders in which modules are looked for, the `src` layout first."""
        return tuple(folder for folder in (self.root / "src", self.root) if folder.is_dir())

    @cached_property
    def adapters(self) -> dict[str, str]:
        """Adapters by name, each as `module:SPEC`, from the entry points in pyproject.toml; empty without any."""
        path = self.root / "pyproject.toml"
        try:
            project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
        except FileNotFoundError:
            return {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise GateError(f"pyproject.toml at {self.side}: not valid TOML: {error}; mend it") from None
        points = project.get("entry-points", {}).get(GROUP, {})
        if not isinstance(points, Mapping) or not all(isinstance(value, str) for value in points.values()):
            raise GateError(
                f'pyproject.toml at {self.side}: [project.entry-points."{GROUP}"] wants lines like mine = "module:SPEC"'
            )
        return {str(name): value.replace(" ", "") for name, value in sorted(points.items())}

    def file_of(self, module: str) -> Path | None:
        """Where a module is written in this tree: `pkg.mod` in `pkg/mod.py` or `pkg/mod/__init__.py`."""
        parts = module.split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        for folder in self.sources:
            for path in (folder.joinpath(*parts, "__init__.py"), folder.joinpath(*parts).with_suffix(".py")):
                if path.is_file():
                    return path
        return None

    def relative(self, path: Path) -> str:
        """A path as git has it."""
        return path.relative_to(self.root).as_posix()

    def text(self, path: Path) -> str:
        """What stands in a file; what is no character there is replaced."""
        return path.read_text(encoding="utf-8", errors="replace")

    def has(self, adapter: str) -> bool:
        """Whether the module of `module:SPEC` is written here."""
        return self.file_of(adapter.partition(":")[0]) is not None
