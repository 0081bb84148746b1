"""Fenced blocks of the pages: what a reader would copy, by page, language and place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
)

SHOWN = frozenset({"", "json", "text", "toml", "yaml"})
"""Languages of blocks that are read, not run: outputs, tables and files; a test of their page reads them."""

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block; `number` counts those of its language on its page, from 1."""

    page: str
    language: str
    number: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}, {self.language} {self.number}: {self.code.splitlines()[0][:60]}"


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """All of a page, in order."""
    seen: dict[str, int] = {}
    found = []
    for language, code in FENCE.findall((ROOT / page).read_text(encoding="utf-8")):
        seen[language] = seen.get(language, 0) + 1
        found.append(Block(page, language, seen[language], code))
    return tuple(found)


def block(page: str, language: str, number: int) -> str:
    """The code of one."""
    (code,) = (each.code for each in blocks(page) if (each.language, each.number) == (language, number))
    return code
