"""Footprint: bytes of tensors, alive together at most and left in the end, whoever holds them."""

from __future__ import annotations

import torch

from conformance import footprint

KILO = 250
"""Numbers in a tensor of 1000 bytes."""


def test_the_peak_is_what_lives_together_and_no_more() -> None:
    def call() -> torch.Tensor:
        first = torch.ones(KILO)
        second = first + 1
        del first
        return second * 2

    assert footprint.of_call(call) == footprint.Footprint(peak=2000, left=0)


def test_views_and_what_was_there_before_are_nothing_new() -> None:
    weight = torch.ones(KILO)
    assert footprint.of_call(lambda: weight[3:].view(-1, 13)) == footprint.Footprint(peak=0, left=0)


def test_what_is_returned_is_not_left_however_deep_it_lies() -> None:
    assert footprint.of_call(lambda: ({"a": [torch.ones(KILO)]}, None)) == footprint.Footprint(peak=1000, left=0)


def test_what_somebody_else_holds_is_left_also_in_a_graph() -> None:
    kept: list[torch.Tensor] = []
    weight = torch.ones(KILO, requires_grad=True)

    def call() -> torch.Tensor:
        # The exponential is saved for the way back, under no name in Python.
        kept.append((weight * 2).exp().sum())
        return kept[-1]

    assert footprint.of_call(call).left == 1000


def test_cycles_are_not_left() -> None:
    def call() -> None:
        cycle: list[object] = [torch.ones(KILO)]
        cycle.append(cycle)

    assert footprint.of_call(call).left == 0


def test_growth_is_what_comes_on_top_with_every_round() -> None:
    last: dict[str, torch.Tensor] = {}
    history: list[torch.Tensor] = []

    def remembers() -> None:
        last["one"] = torch.ones(KILO)

    def appends() -> None:
        history.append(torch.ones(KILO))

    assert footprint.growth([remembers, lambda: torch.ones(KILO)], 7) == 0
    # Seven runs of two calls are four rounds.
    assert footprint.growth([remembers, appends], 7) == 3000
