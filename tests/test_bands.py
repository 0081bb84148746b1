"""Bands: what is told of a relation can be read back, and a check tells it as it was seen."""

from __future__ import annotations

import json

import pytest
import torch

from conformance import bands
from conformance.checks.mask.cells import shown
from conformance.influence import Seen
from conformance.report import document

BLOCKS = torch.block_diag(*[torch.ones(3, 3)] * 2).bool()


def drawn(lines: list[str], wide: int) -> list[list[bool]]:
    """A relation out of its bands."""
    return [
        [any(first <= key <= last for first, last in band.runs) for key in range(wide)]
        for band in bands.read(lines)
        for _ in range(band.rows)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_told_can_be_read(seed: int) -> None:
    relation = torch.rand(9, 7, generator=torch.Generator().manual_seed(seed)) < seed / 19
    assert drawn(bands.told(relation.tolist()), 7) == relation.tolist()


def test_equal_neighbours_are_told_once() -> None:
    assert bands.told(BLOCKS.tolist()) == ["3: 0-2", "3: 3-5"]
    assert bands.told(torch.eye(2).bool().tolist()) == ["1: 0", "1: 1"]
    assert bands.told([[False, False]] * 2) == ["2:"]


@pytest.mark.parametrize("line", ["", "3", "3:0-2", "three: 0-2", "3: 2-", "3: 0-2 ", "9999999: 0", None])
def test_what_is_no_band_is_refused(line: object) -> None:
    with pytest.raises(ValueError, match="is no band such as"):
        bands.read([line])


def test_the_schema_has_the_same_notation() -> None:
    pattern = json.loads(document.SCHEMA.read_text())["$defs"]["bands"]["items"]["pattern"]
    assert pattern == f"^{bands.BAND.pattern}$"


def test_layers_that_show_the_same_are_told_together() -> None:
    every = list(range(6))
    wrong = BLOCKS.roll(1, dims=1)
    seen = [
        Seen("blocks.0", BLOCKS, every, every),
        Seen("blocks.1", wrong, every, every),
        Seen("blocks.2", BLOCKS, every, every),
    ]
    first, second = shown(BLOCKS, seen)
    assert first == {
        "at": ["blocks.0", "blocks.2"],
        "positions": "0-5",
        "want": ["3: 0-2", "3: 3-5"],
        "got": ["3: 0-2", "3: 3-5"],
    }
    assert second == {
        "at": ["blocks.1"],
        "positions": "0-5",
        "want": ["3: 0-2", "3: 3-5"],
        "got": ["3: 1-3", "3: 0 4-5"],
    }


def test_of_a_long_stream_only_tried_positions_are_told() -> None:
    tried = [0, 1, 4, 5]
    (fact,) = shown(BLOCKS, [Seen("blocks.0", BLOCKS[:, tried], list(range(6)), tried, own=True)])
    assert fact == {
        "at": ["blocks.0"],
        "positions": "0-1 4-5",
        "want": ["2: 0-1", "2: 2-3"],
        "got": ["2: 0-1", "2: 2-3"],
    }
