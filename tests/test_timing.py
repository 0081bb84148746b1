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


def test_ten_per_cent_more_work_is_found_and_none_where_there_is_none() -> None:
    """The tolerance of the notes: 7.5 % for two calls that are equal."""
    assert sum(verdict(1.0, seed, ceiling=1.075) for seed in range(500)) <= 1
    assert sum(verdict(1.10 * 1.075, seed, ceiling=1.075) for seed in range(200)) >= 190


@pytest.mark.parametrize(("ratio", "over"), [(2.0, True), (1.0, False)])
def test_a_clear_case_needs_the_first_stage_only(ratio: float, over: bool) -> None:
    from conformance.timing import STAGES, judge

    found = judge([math.log(ratio)] * STAGES[0], 1.15)
    assert found is not None
    assert found.over is over
    assert found.median == pytest.approx(ratio)


def test_an_open_case_waits_for_more_pairs() -> None:
    from conformance.timing import STAGES, judge

    for stage in STAGES[:-1]:
        assert judge([math.log(1.15) + (0.2 if i % 2 else -0.2) for i in range(stage)], 1.15) is None


def test_from_the_second_stage_on_the_slack_decides() -> None:
    from conformance.timing import SLACK, STAGES, judge

    def logs(count: int) -> list[float]:
        return [math.log(1.15) + (0.01 if i % 3 else -0.9 * SLACK) for i in range(count)]

    assert judge(logs(STAGES[0]), 1.15) is None
    found = judge(logs(STAGES[1]), 1.15)
    assert found is not None
    assert found.over


def test_the_last_stage_decides_by_the_median() -> None:
    from conformance.timing import STAGES, judge

    for shift, over in ((0.001, True), (-0.001, False)):
        logs = [math.log(1.15) + shift + (i % 3 - 1) * 0.3 for i in range(STAGES[-1])]
        found = judge(logs, 1.15)
        assert found is not None
        assert found.over is over


def test_two_bad_moments_in_a_row_make_a_finding_and_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance import timing

    moments = iter([True, False, True, True])

    def pairs(subject: object, reference: object, count: int) -> list[tuple[float, float]]:
        return [(3.0 if next(moments) else 1.0, 1.0)] * count

    monkeypatch.setattr(timing, "pairs", pairs)
    assert not timing.settled(lambda: None, lambda: None, 1.5).over
    assert timing.settled(lambda: None, lambda: None, 1.5).over
    assert next(moments, None) is None


def test_what_both_sides_took_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance import timing

    monkeypatch.setattr(timing, "pairs", lambda one, other, count: [(3.0, 2.0)] * count)
    found = timing.full(lambda: None, lambda: None)
    assert (found.pairs, found.seconds, found.over) == (timing.STAGES[-1], (3.0, 2.0), False)
    assert found.median == pytest.approx(1.5)


def test_pairs_alternate_their_order_and_share_the_warm_up() -> None:
    from conformance.timing import STAGES, WARM_UP, paired_ratio

    calls: list[str] = []
    ratio = paired_ratio(lambda: calls.append("s"), lambda: calls.append("r"), 1e9)
    assert ratio.pairs == STAGES[0]
    pairs = ["".join(calls[i : i + 2]) for i in range(2 * WARM_UP, len(calls), 2)]
    assert pairs == [("sr", "rs")[index % 2] for index in range(STAGES[0])]


BENCHMARK = """
import pytest

from conformance import timing
from conformance.timing import STAGES, WARM_UP, paired_ratio, recorded

now = [0.0]


def clock():
    return now[0]


def takes(seconds):
    now[0] += seconds


@pytest.mark.benchmark(timer=clock)
def test_timed_directly_as_under_xdist_it_is_the_same(benchmark, monkeypatch):
    monkeypatch.setattr(timing, "clock", clock)
    sides = lambda: takes(3.0), lambda: takes(2.0)
    assert timing.pairs(*sides, 7) == recorded(benchmark)(*sides, 7) == [(3.0, 2.0)] * 7



def test_pairs(benchmark):
    calls = []
    ratio = paired_ratio(lambda: calls.append("s"), lambda: calls.append("r"), 1e9, first=recorded(benchmark))
    assert ratio.pairs == STAGES[0]
    pairs = ["".join(calls[i : i + 2]) for i in range(2 * WARM_UP, 2 * (WARM_UP + STAGES[0]), 2)]
    assert pairs == ["rs", "sr"] * (STAGES[0] // 2) + ["rs"]
    assert len(benchmark.stats.stats.data) == len(benchmark.extra_info["reference_seconds"]) == STAGES[0]
    assert ratio.seconds[0] == sorted(benchmark.stats.stats.data)[STAGES[0] // 2]
"""


def test_by_way_of_pytest_benchmark_the_pairs_are_the_same_and_both_sides_are_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BENCHMARK)
    pytester.runpytest_inprocess("-p", "no:xdist").assert_outcomes(passed=2)


def test_the_process_is_left_as_it_was() -> None:
    import gc

    import torch

    from conformance.timing import paired_ratio

    threads = torch.get_num_threads()
    paired_ratio(lambda: None, lambda: None, 1e9)
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)
