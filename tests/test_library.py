"""docs/library.md: its blocks run as one session, and print what stands below them, to the letter."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from fences import ROOT, blocks

PAGE = "docs/library.md"


def test_every_block_prints_what_stands_below_it() -> None:
    names: dict[str, Any] = {"__name__": "library"}
    code, told = ([each.code for each in blocks(PAGE) if each.language == language] for language in ("python", "text"))
    got = []
    for number, block in enumerate(code, 1):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block, f"{PAGE}, block {number}", "exec"), names)
        got.append(printed.getvalue())
    assert got == told


def test_each_block_is_followed_by_its_output() -> None:
    assert [each.language for each in blocks(PAGE)] == ["python", "text"] * (len(blocks(PAGE)) // 2)


def test_the_page_is_led_to() -> None:
    assert "(docs/library.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
