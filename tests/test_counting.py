"""Counting: the same work counts the same, however it is written, and a call is a call."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("masked", [False, True])
def test_attention_counts_alike_in_either_form(masked: bool) -> None:
    import torch

    from conformance.counting import flops

    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 5, 8, generator=generator), torch.randn(2, 3, 7, 8, generator=generator)
    mask = torch.zeros(1, 1, 5, 7) if masked else None
    fused = flops(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k, attn_mask=mask))
    assert fused == flops(lambda: (q @ k.mT).softmax(-1) @ k)
    assert fused == 2 * 2 * (2 * 3 * 5 * 7 * 8)


@pytest.mark.parametrize("masked", [False, True])
def test_so_does_its_backward(masked: bool) -> None:
    import torch

    from conformance.counting import flops

    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 3, 5, 8, generator=generator, requires_grad=True)
    k = torch.randn(2, 3, 7, 8, generator=generator, requires_grad=True)
    mask = torch.zeros(1, 1, 5, 7) if masked else None

    def fused() -> object:
        return torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(q, k, k, attn_mask=mask).sum(), q)

    def spelled_out() -> object:
        return torch.autograd.grad(((q @ k.mT).softmax(-1) @ k).sum(), (q, k))

    assert flops(fused) == flops(spelled_out) == 3 * 2 * 2 * (2 * 3 * 5 * 7 * 8)


def test_calls_are_counted_in_a_second_run_and_comprehensions_are_none() -> None:
    import sys

    from conformance.counting import calls

    def inner(number: int) -> int:
        return number

    runs: list[int] = []

    def call() -> list[int]:
        runs.append(len(runs))
        # What is prepared once is no overhead.
        return [inner(number) for number in range(5)] + ([inner(9)] if len(runs) == 1 else [])

    assert calls(call) == 5
    assert len(runs) == 2
    assert sys.getprofile() is None
