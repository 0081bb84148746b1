"""Specs: how little each takes, and that nothing but data tells one adapter from another."""

from __future__ import annotations

import io
import tokenize
from pathlib import Path

import pytest

from conformance import adapters

HOME = Path(adapters.__file__).parent
CHECKS = HOME.parent / "checks"
FAMILIES = ("bd3lm", "dream", "gidd", "llada")
"""What names of adapters and architectures begin with, in small letters."""


@pytest.mark.parametrize("name", ["dream", "gidd", "llada", "llada2_moe"])
def test_a_spec_stays_under_eighty_lines(name: str) -> None:
    lines = (HOME / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) < 80


@pytest.mark.parametrize("path", sorted(CHECKS.rglob("*.py")), ids=lambda path: str(path.relative_to(CHECKS)))
def test_no_check_asks_which_adapter_it_has(path: Path) -> None:
    words = [
        token.string.lower()
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
        # What a docstring tells of the past is no question.
        if token.type == tokenize.NAME or (token.type == tokenize.STRING and not token.string.startswith('"""'))
    ]
    assert [word for word in words if any(family in word for family in FAMILIES)] == []
