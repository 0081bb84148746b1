"""Mutants that nobody thought of: seeded draws of what is wrong and by how much, each found by the check it is for.

Weights, masks and cached values are changed in one element, one row or one head, down to 100 times the budget of the
tensor that shows it first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conformance import components, taps
from conformance.adapters.bd3lm_reference import SPEC
from conformance.requirement import requirements

REGISTRY = requirements()
WEIGHTS, MASKS, VALUES = 250, 100, 150
BUDGETS = (100, 10_000)
"""How far the first tensor that shows a change is off, in budgets."""


@pytest.fixture(scope="module")
def boot(warm) -> Any:
    from conformance import checkpoint
    from conformance.judge import Boot

    return Boot(SPEC, checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC), trusted=True)


def again(pair: Any) -> Any:
    """The pair once more, nothing recorded yet but what does not change: what its witnesses say."""
    from conformance.pair import Pair

    fresh = Pair(pair.boot, pair.layout)
    fresh.__dict__["witnesses"] = pair.witnesses
    return fresh


def found(requirement: str, pair: Any) -> list[str]:
    from conformance.judge import Evidence

    check = REGISTRY[requirement]
    offered = {"pair": pair, "evidence": Evidence()}
    return [finding.at for finding in check.check(**{name: offered[name] for name in check.parameters})]


@contextmanager
def added(tensor: Any, change: Any) -> Iterator[None]:
    kept = tensor.clone()
    tensor += change
    try:
        yield
    finally:
        tensor.copy_(kept)


class Draw:
    """Draws of one seed."""

    def __init__(self, seed: int) -> None:
        import torch

        self.generator = torch.Generator().manual_seed(seed)

    def one(self, number: int) -> int:
        import torch

        return int(torch.randint(number, (), generator=self.generator))

    def numbers(self, *shape: int) -> Any:
        import torch

        return torch.randn(shape, generator=self.generator)

    def budgets(self) -> float:
        import torch

        low, high = map(math.log, BUDGETS)
        return math.exp(low + (high - low) * float(torch.rand((), generator=self.generator)))

    def region(self, shape: tuple[int, ...], head: int) -> Any:
        """Numbers in one element, in one row, or in as many rows as a head has, and zeros elsewhere."""
        import torch

        change, row = torch.zeros(shape), self.one(shape[0] // head) * head
        rows = {0: 1, 1: 1, 2: head}[kind := self.one(3)]
        columns = slice(None) if kind else slice(column := self.one(shape[1]), column + 1)
        change[row : row + rows, columns] = 1 + self.numbers(rows, shape[1])[:, columns].abs()
        return change


def linear(boot: Any) -> list[tuple[str, Any]]:
    """Points of linear modules, each with its weight, `out in`."""
    found = []
    for name, path in taps.paired(SPEC.points, boot.layers, boot.reference):
        weight = getattr(components.unwrapped(components.at(boot.bridge.original_model, path)), "weight", None)
        if weight is not None and weight.ndim == 2:
            found.append((name, weight.data))
    return found


def test_a_weight_is_found_where_it_is_used_first(boot) -> None:
    draw, head = Draw(1), boot.sizes["d_model"] // boot.sizes["heads"]
    clean = {name: pair for name, pair in boot.pairs.items() if not pair.mismatches()}
    places, tried, missed = linear(boot), 0, {}
    assert clean.keys() == boot.pairs.keys()
    assert len(places) > 10
    while tried < WEIGHTS:
        pair = list(clean.values())[draw.one(len(clean))]
        name, weight = places[draw.one(len(places))]
        seen = pair.observed.joined(pair.canonical(f"{name}.hook_in"))
        change, at = draw.region(tuple(weight.shape), head), f"{name}.hook_out"
        moved = float((seen.flatten(0, -2) @ change.T).abs().max())
        if not moved:
            # The stream is zero there: an input that no row has.
            continue
        tried += 1
        with added(weight, change * draw.budgets() * float(pair.allowed(at)) / moved):
            wrong = again(pair)
            named = f"first differs at {pair.canonical(at)}" in wrong.divergence
            if not named or at not in found("parity/taps", wrong):
                missed[tried] = (pair.layout.name, name, wrong.divergence)
    assert missed == {}


def test_a_cell_of_the_mask_is_found_in_what_the_model_does(boot) -> None:
    from conformance.sizes import Size

    draw, missed = Draw(2), {}
    for number in range(MASKS):
        pair = list(boot.pairs.values())[draw.one(len(boot.pairs))]
        owner, _, name = pair.layout.mask.path.rpartition(".")
        holder = boot.bridge.original_model.get_submodule(owner)
        start = Size(pair.layout.mask.start).of(boot.sizes)
        query, key = (start + draw.one(pair.length) for _ in range(2))
        kept, flipped = getattr(holder, name), getattr(holder, name).clone()
        flipped[query, key] ^= True
        setattr(holder, name, flipped)
        try:
            for requirement in ("mask/relation-tensor", "mask/relation"):
                if not found(requirement, again(pair)):
                    missed[number] = (requirement, pair.layout.name, query - start, key - start)
        finally:
            setattr(holder, name, kept)
    assert missed == {}


def test_a_cached_value_is_found_by_its_name(boot) -> None:
    draw, tried, missed = Draw(3), 0, {}
    while tried < VALUES:
        pair = list(boot.pairs.values())[draw.one(len(boot.pairs))]
        logits, entries = pair.cached
        floats = [name for name, entry in entries.items() if entry.is_floating_point() and entry.ndim > 1]
        name = floats[draw.one(len(floats))]
        entry = entries[name]
        changed, wrong = entry.clone(), again(pair)
        part = changed.flatten(0, -2)
        row = draw.one(len(part))
        columns = slice(None) if draw.one(2) else draw.one(part.shape[1])
        finite = part[row, columns].isfinite()
        part[row, columns] += finite * draw.budgets() * float(pair.allowed(name))
        if changed.equal(entry):
            # Scores of what the mask forbids.
            continue
        tried += 1
        wrong.__dict__.update(cached=(logits, {**entries, name: changed}), observed=pair.observed)
        if found("cache/values", wrong) != [name]:
            missed[tried] = name
    assert missed == {}
