"""The sequential rule: what it decides on ratios of known distribution. No test looks at a clock."""

from __future__ import annotations

import math
import random

import pytest


def verdict(true_ratio: float, seed: int, spread: float = 0.08, ceiling: float = 1.15) -> bool:
    """Whether simulated pairs, log-normal with heavy bursts on either side, are judged over the ceiling."""
    from conformance.timing import STAGES, judge

    draw = random.Random(seed)
    logs: list[float] = []
    for stage in STAGES:
        while len(logs) < stage:
            burst = draw.choice((-1, 1)) * draw.expovariate(2) if draw.random() < 0.1 else 0.0
            logs.append(math.log(true_ratio) + draw.gauss(0, spread) + burst)
        ratio = judge(logs, ceiling)
        if ratio is not None:
            assert ratio.low <= ratio.median <= ratio.high
            return ratio.over
    raise AssertionError("the last stage must decide")


def test_equal_speed_is_never_called_slow() -> None:
    assert not any(verdict(1.0, seed) for seed in range(500))


def test_ten_per_cent_over_the_ceiling_is_found() -> None:
    found = sum(verdict(1.15 * 1.10, seed) for seed in range(200))
    assert found >= 190


def test_a_clear_case_needs_the_first_stage_only() -> None:
    from conformance.timing import STAGES, judge

    ratio = judge([math.log(2.0)] * STAGES[0], 1.15)
    assert ratio is not None
    assert ratio.over
    assert ratio.median == pytest.approx(2.0)


def test_an_open_case_waits_for_more_pairs() -> None:
    from conformance.timing import STAGES, judge

    wide = [math.log(1.15) + (0.2 if i % 2 else -0.2) for i in range(STAGES[0])]
    assert judge(wide, 1.15) is None


def test_pairs_alternate_their_order_and_share_the_warm_up() -> None:
    from conformance.timing import STAGES, WARM_UP, paired_ratio

    calls: list[str] = []
    ratio = paired_ratio(lambda: calls.append("s"), lambda: calls.append("r"), 1e9)
    assert ratio.pairs == STAGES[0]
    pairs = ["".join(calls[i : i + 2]) for i in range(2 * WARM_UP, len(calls), 2)]
    assert pairs[:4] == ["sr", "rs", "sr", "rs"]


BENCHMARK = """
from conformance.timing import STAGES, WARM_UP, paired_ratio, recorded


def test_pairs(benchmark):
    calls = []
    ratio = paired_ratio(lambda: calls.append("s"), lambda: calls.append("r"), 1e9, first=recorded(benchmark))
    assert ratio.pairs == STAGES[0]
    pairs = ["".join(calls[i : i + 2]) for i in range(2 * WARM_UP, 2 * (WARM_UP + STAGES[0]), 2)]
    assert pairs == ["rs", "sr"] * (STAGES[0] // 2) + ["rs"]
    assert len(benchmark.stats.stats.data) == len(benchmark.extra_info["reference_seconds"]) == STAGES[0]
"""


def test_by_way_of_pytest_benchmark_the_pairs_are_the_same_and_both_sides_are_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BENCHMARK)
    pytester.runpytest_inprocess("-p", "no:xdist").assert_outcomes(passed=1)


def test_the_process_is_left_as_it_was() -> None:
    import gc

    import torch

    from conformance.timing import paired_ratio

    threads = torch.get_num_threads()
    paired_ratio(lambda: None, lambda: None, 1e9)
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)
