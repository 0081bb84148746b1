"""Budgets: each lies well above the noise of what it allows, and far below the weakest defect that it must show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.kills import noticed
from conformance.mutants import mutants
from conformance.requirement import requirements

REGISTRY = requirements()
MUTANTS = mutants()

NOISE, DEFECT = 3, 10
"""A budget is at least so many times the noise, and the weakest defect so many times the budget."""

WEAKEST = {
    "witness": "parity/logit-scale",
    "paths": "parity/another-unembedding",
    "oracle": "parity/other-equations",
    "slope": "gradients/no-gradient-anywhere",
}
"""For every budget a known defect that it must show, the one that lies nearest to it."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """By budget, how much of it every comparison used that stayed within."""
    from conformance import compare

    used: dict[str, list[float]] = defaultdict(list)

    def within(size: float, allowed: float) -> bool:
        # What lies beyond is no noise but a deviation that is declared.
        if isinstance(allowed, compare.Allowed) and 0 < size <= allowed:
            used[allowed.budget].append(size / allowed)
        return size <= allowed

    monkeypatch.setattr(compare, "within", within)
    return used


@pytest.fixture
def judge(miniature: Path) -> Callable:
    from conformance import ledger
    from conformance.judge import Judge
    from conformance.subject import Boot

    return lambda: Judge(Boot(SPEC, miniature, trusted=True), ledger.load(SPEC, REGISTRY), REGISTRY)


def verdicts(judge: Any, id: str) -> Iterator[Any]:
    required = REGISTRY[id]
    for layout in judge.boot.pairs if required.per_layout else [None]:
        yield judge.verdict(required, layout)


def test_noise_uses_a_third_of_a_budget_at_most(seen: dict[str, list[float]], judge: Callable) -> None:
    good = judge()
    for id, required in REGISTRY.items():
        if required.family not in ("throughput", "snapshot"):
            list(verdicts(good, id))
    assert seen.keys() == WEAKEST.keys()
    assert {name: max(values) for name, values in seen.items() if max(values) > 1 / NOISE} == {}


@pytest.mark.parametrize("budget", WEAKEST)
def test_the_weakest_defect_lies_ten_budgets_off(budget: str, judge: Callable) -> None:
    mutant = MUTANTS[WEAKEST[budget]]
    changed = judge()
    mutant.apply(changed.boot)
    found = [finding for outcome in verdicts(changed, mutant.kills) for finding in noticed(outcome)]
    sizes = [f.size / f.allowed for f in found if f.allowed and getattr(f.allowed, "budget", "") == budget]
    assert max(sizes) >= DEFECT
