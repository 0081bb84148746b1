"""The rule for a slowdown between two revisions, with processes that make their times up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance.gate.runs import Runner
from conformance.gate.speed import MEASUREMENTS, PAIRS, Speed, compared
from conformance.gate.tree import Tree

STUB = """
import json, random, sys
factor, sizes, boots = json.loads(sys.argv[1]), sys.argv[2], 0
for line in sys.stdin:
    if line == "boot\\n":
        noise = random.Random(f"{factor}{boots}")
        now = factor[min(boots, len(factor) - 1)]
        boots += 1
        print(json.dumps({"cannot": "no"} if now is None else {"sizes": sizes, "inputs": {"train": {}}}), flush=True)
    elif line != "end\\n":
        if now == 0:
            sys.exit(1)
        print(now * noise.uniform(0.98, 1.02), flush=True)
"""


class Made(Runner):
    """Starts STUB in the place of a stopwatch; `factors` are what each boot of head's process takes, by process."""

    factors: Sequence[Sequence[float | None]] = ()
    sizes = "n 21"
    started = 0

    def start(self, command: Sequence[str], tree: Tree, folder: Path, **pipes: Any) -> subprocess.Popen[Any]:
        head = tree.side == "head"
        factors = self.factors[min(self.started, len(self.factors) - 1)] if head else [1.0]
        self.started += head
        sizes = self.sizes if head else "n 21"
        return super().start([sys.executable, "-c", STUB, json.dumps(factors), sizes], tree, folder, **pipes)


def timed(folder: Path, *factors: Sequence[float | None], sizes: str = "n 21") -> tuple[Speed, int]:
    """What is measured, and how often a process of head was started for it."""
    (folder / "tree").mkdir()
    base, head = Tree(folder / "tree", "base"), Tree(folder / "tree", "head")
    with Made(folder) as runner:
        runner.factors, runner.sizes = factors, sizes
        return compared(runner, base, head, ("mine:SPEC", "mine:SPEC"), folder), runner.started


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes cannot be bound to a core here")


def test_no_difference(tmp_path: Path) -> None:
    speed, started = timed(tmp_path, [1.0])
    assert speed.slow == ()
    assert started == 1
    # Two boots agree, so the third could not change what the median says.
    assert len(speed.ratios["train"]) == PAIRS - 1
    assert speed.median("train") == pytest.approx(1, abs=0.02)


def test_fifteen_percent(tmp_path: Path) -> None:
    speed, started = timed(tmp_path, [1.15])
    assert speed.slow == ("train",)
    assert started == MEASUREMENTS
    assert speed.median("train") == pytest.approx(1.15, abs=0.02)


@pytest.mark.parametrize(("boots", "slow"), [([1.0, 1.2, 1.0], ()), ([1.2, 1.0, 1.2], ("train",))])
def test_the_middle_one_of_three_boots_is_believed(tmp_path: Path, boots: list[float], slow: tuple[str, ...]) -> None:
    speed, _ = timed(tmp_path, boots)
    assert len(speed.ratios["train"]) == PAIRS
    assert speed.slow == slow


def test_a_bad_moment_is_not_believed(tmp_path: Path) -> None:
    speed, started = timed(tmp_path, [1.2], [1.0])
    assert speed.slow == ()
    assert started == MEASUREMENTS


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    for number, (factors, sizes, reason) in enumerate(
        [
            ([1.0], "n 42", "sizes or inputs of the spec's bench changed, so that no forward is the other's like"),
            ([None], "n 21", "head does not run at the size for timing: no"),
            ([0.0], "n 21", "a process ended while it was timed"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        speed, _ = timed(tmp_path / str(number), factors, sizes=sizes)
        assert speed == Speed({}, unmeasured=reason)


def test_where_no_process_can_be_bound_to_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_setaffinity")
    speed, started = timed(tmp_path, [2.0])
    assert started == 0
    assert speed.slow == ()
    assert speed.unmeasured == "this system cannot pin two processes to one core; times would tell nothing"
