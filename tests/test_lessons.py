"""docs/lessons.md: every known defect of a bridge is noticed by something."""

from __future__ import annotations

import re
from pathlib import Path

from conformance.requirement import requirements

LESSONS = Path(__file__).parent.parent / "docs" / "lessons.md"

KNOWN = {*range(1, 63), 64, 69, 70}
"""Numbers among seventy that were collected; the others are of verifiers, and of defaults that changed."""


def rows() -> dict[int, list[str]]:
    lines = [line.strip("|\n ").split(" | ") for line in LESSONS.read_text().splitlines() if re.match(r"\| \d+ ", line)]
    assert len({line[0].strip() for line in lines}) == len(lines)
    return {int(number): rest for number, *rest in lines}


def test_the_map_is_complete() -> None:
    assert rows().keys() == KNOWN


def test_every_lesson_names_requirements_that_exist() -> None:
    registry = requirements()
    for number, (_, defect, noticed) in rows().items():
        assert defect
        assert set(noticed.split(", ")) <= registry.keys(), number
