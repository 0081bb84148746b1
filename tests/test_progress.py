"""A long run says how far it is."""

import re
from collections.abc import Callable

import pytest

from conformance import progress

LINE = re.compile(r"(\d+) of (\d+) after 0:\d\d, at (conformance\.\S+)")


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_a_long_run_says_how_far_it_is_and_at_what(
    run: Callable, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    told = [LINE.fullmatch(line) for line in run("--adapter", "bd3lm", "-k", "snapshot", *workers).result.outlines]
    lines = [found.groups() for found in told if found]
    assert {int(of) for _, of, _ in lines} == {len(lines)} != {0}
    assert [int(ended) for ended, *_ in lines] == sorted(int(ended) for ended, *_ in lines)
    assert len({node for *_, node in lines}) == len(lines)


def test_a_short_run_and_one_that_names_every_case_have_no_such_line(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(map(LINE.fullmatch, run("--adapter", "bd3lm", "-k", "snapshot").result.outlines))
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert not any(map(LINE.fullmatch, run("--adapter", "bd3lm", "-k", "snapshot", "-v").result.outlines))
