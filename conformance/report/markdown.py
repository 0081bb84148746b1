"""Markdown, as job summaries show it: text of others made harmless, tables, what is folded away."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

LIMIT = 900_000
"""Bytes that a job summary may have; GitHub drops one of more than 1024 KiB whole."""

CUT = "\n\n*Cut here: the whole summary is in the file summary.md.*\n"


def text(words: str) -> str:
    """One line of plain text that nothing in it can format, link or end."""
    return re.sub(r"([\\`*\[\]|#])", r"\\\1", " ".join(words.split())).replace("<", "&lt;").replace(">", "&gt;")


def code(words: str) -> str:
    """A name or a short text as code, in one line, also inside a table."""
    line = " ".join(words.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def block(words: str, language: str = "") -> str:
    """Several lines as they are."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", words)), default=0))
    return f"{fence}{language}\n{words}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def folded(title: str, body: str) -> str:
    """A part that opens on demand; the title is plain text, which no Markdown is read in."""
    return f"<details><summary>{html.escape(' '.join(title.split()))}</summary>\n\n{body}\n\n</details>"


def cut(summary: str, limit: int = LIMIT) -> str:
    """The summary, cut after a whole line where it has more bytes than a job summary may have."""
    whole = summary.encode()
    if len(whole) <= limit:
        return summary
    kept = whole[: limit - len(CUT.encode())].decode(errors="ignore")
    return kept[: kept.rfind("\n")] + CUT
