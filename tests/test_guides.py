"""Pages for those who carry on: what they print and quote is so, and what they name is there."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from fences import blocks

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "conformance").rglob("*.py"))


def test_the_way_of_a_requirement_is_what_the_page_prints() -> None:
    told: dict[str, Any] = {}
    stations = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", ARCHITECTURE, flags=re.DOTALL)
    assert len(stations) == ARCHITECTURE.count("```python") == 7
    for code, printed in stations:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "architecture.md", "exec"), told)
        assert out.getvalue() == printed


def test_what_contributors_are_shown_stands_in_the_code() -> None:
    quoted = [textwrap.dedent(each.code) for each in blocks("CONTRIBUTING.md")]
    assert len(quoted) == 2
    assert [code for code in quoted if code.rstrip() not in CODE] == []


@pytest.mark.parametrize("page", [ARCHITECTURE, CONTRIBUTING])
def test_what_the_pages_name_is_there(page: str) -> None:
    packages = ROOT / "conformance"
    named = set(re.findall(r"`((?:\w+/)*(?:\w+\.py|\w+/))`", page))
    assert named
    assert [path for path in named if not (packages / path).exists() and not (ROOT / path).exists()] == []


def test_every_module_has_its_place_on_the_page() -> None:
    table = ARCHITECTURE.partition("## Where things are")[2]
    modules = {path.name for path in (ROOT / "conformance").glob("*.py")} - {"__init__.py"}
    assert sorted(name for name in modules if f"`{name}`" not in table) == []
