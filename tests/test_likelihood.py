"""Likelihoods in closed form, against enumeration, quadrature and finite differences."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

BLOCKS = (1, 2, 3, 4)


def seeded(*shape: int, seed: int = 0) -> Any:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scores(block: int, blocks: int = 2) -> Any:
    """Log-probabilities of some text under every pattern, `block pattern token`."""
    return -seeded(blocks, 2**block - 1, block).abs()


def in_order(told: Any, order: tuple[int, ...]) -> Any:
    """Log-probability of one block's text when its tokens are revealed in this order."""
    hidden, total = (1 << len(order)) - 1, 0.0
    for token in order:
        total = total + told[hidden - 1, token]
        hidden -= 1 << token
    return total


def quadrature(points: int) -> tuple[Any, Any]:
    """Gauss-Legendre nodes and weights on [0, 1], exact for polynomials below degree `2 * points`."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(points)
    return (nodes + 1) / 2, weights / 2


def test_subs_knows_what_is_revealed_and_never_guesses_a_mask() -> None:
    import torch

    from conformance.oracles.likelihood import subs

    mask, tokens = 6, torch.tensor([[6, 2, 6, 0]])
    told = subs(seeded(1, 4, 7), tokens, mask).exp()
    assert torch.allclose(told.sum(-1), torch.ones(1, 4, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (told[0, :, mask] == 0).all()
    assert (told[0, 1] == torch.eye(7)[2]).all()
    assert (told[0, 3] == torch.eye(7)[0]).all()
    assert (told[0, 0, :mask] > 0).all()


def test_subs_is_what_the_released_code_does_in_place() -> None:
    import torch

    from conformance.oracles.likelihood import subs

    mask, tokens, logits = 6, torch.tensor([[6, 2, 6, 0]]), seeded(1, 4, 7)
    want = logits.clone()
    want[..., mask] += -1e6
    want = want - want.logsumexp(-1, keepdim=True)
    for position in (1, 3):
        want[0, position] = -1e6
        want[0, position, tokens[0, position]] = 0
    assert torch.allclose(subs(logits, tokens, mask).exp(), want.exp(), atol=1e-15, rtol=0)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("value", [0.0, -3.5])
def test_uniform_logits_cost_the_logarithm_of_all_but_the_mask(block: int, value: float) -> None:
    import torch

    from conformance.oracles.likelihood import exact_nelbo, exact_nll, patterns, subs

    vocabulary, mask = 67, 66
    canvases = torch.where(patterns(block), mask, torch.tensor(5))
    told = subs(torch.full((*canvases.shape, vocabulary), value), canvases, mask)[..., 5]
    want = torch.tensor(block * math.log(vocabulary - 1), dtype=torch.float64)
    for exact in (exact_nelbo, exact_nll):
        assert torch.allclose(exact(told), want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("block", BLOCKS)
def test_patterns_are_all_there_are_in_the_order_of_their_bits(block: int) -> None:
    from conformance.oracles.likelihood import patterns

    rows = patterns(block).tolist()
    assert len({tuple(row) for row in rows}) == len(rows) == 2**block - 1
    assert [sum(hidden << token for token, hidden in enumerate(row)) for row in rows] == [*range(1, 2**block)]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_pattern_weighs_the_integral_over_all_noise_levels(block: int) -> None:
    from conformance.oracles.likelihood import patterns, weight

    levels, weights = quadrature(8)
    for masked in range(1, block + 1):
        integral = sum(weights * levels ** (masked - 1) * (1 - levels) ** (block - masked))
        assert weight(masked, block) == pytest.approx(integral, rel=1e-12)
    for token in range(block):
        total = sum(weight(int(row.sum()), block) for row in patterns(block) if row[token])
        assert total == pytest.approx(1, rel=1e-12), "every token is counted once"


@pytest.mark.parametrize("block", BLOCKS)
def test_the_exact_bound_and_likelihood_are_means_over_all_orders(block: int) -> None:
    import torch

    from conformance.oracles.likelihood import exact_nelbo, exact_nll

    told = scores(block)
    orders = [[in_order(each, order) for order in itertools.permutations(range(block))] for each in told]
    by_order = torch.tensor(orders, dtype=torch.float64)
    assert torch.allclose(exact_nelbo(told), -by_order.mean(-1), atol=1e-12, rtol=0)
    assert torch.allclose(exact_nll(told), -by_order.exp().mean(-1).log(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_bound_bounds_and_is_tight_where_there_is_one_order(block: int) -> None:
    import torch

    from conformance.oracles.likelihood import exact_nelbo, exact_nll

    told = scores(block, blocks=50)
    gap = exact_nelbo(told) - exact_nll(told)
    assert torch.equal(gap, torch.zeros(50, dtype=torch.float64)) if block == 1 else (gap > 1e-6).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_the_estimator_is_unbiased(block: int) -> None:
    import torch

    from conformance.oracles.likelihood import exact_nelbo, nelbo, patterns

    told, levels = scores(block), zip(*quadrature(8), strict=True)
    expected = torch.zeros(len(told), dtype=torch.float64)
    for level, share in levels:
        for pattern, hidden in enumerate(patterns(block)):
            chance = math.prod(level if masked else 1 - level for masked in hidden.tolist())
            expected += share * chance * nelbo(told[:, pattern], hidden, torch.tensor(level)).sum(-1)
    assert torch.allclose(expected, exact_nelbo(told), atol=1e-12, rtol=0)


@pytest.mark.parametrize("block", BLOCKS)
def test_slopes_of_the_exact_likelihood_are_shares_of_the_orders(block: int) -> None:
    import torch

    from conformance.oracles.likelihood import exact_nll, patterns

    told = scores(block, blocks=1).requires_grad_()
    (slope,) = torch.autograd.grad(exact_nll(told).sum(), told)
    direction, step = seeded(*told.shape, seed=1), 1e-5
    with torch.no_grad():
        difference = (exact_nll(told + step * direction) - exact_nll(told - step * direction)) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(float(difference), rel=1e-7)
    assert (slope[0][~patterns(block)] == 0).all(), "what is revealed costs nothing"
    assert torch.allclose(slope[0].sum(0), -torch.ones(block, dtype=torch.float64)), "each token is revealed once"


def test_likelihoods_of_all_texts_add_up_to_one() -> None:
    import torch

    from conformance.oracles.likelihood import exact_nelbo, exact_nll, patterns, subs

    vocabulary, mask, block = 4, 3, 3
    canvases_of_all = enumerate(itertools.product(range(vocabulary), repeat=block))
    table = {canvas: seeded(block, vocabulary, seed=number) for number, canvas in canvases_of_all}
    total, bounded = 0.0, 0.0
    for text in itertools.product(range(mask), repeat=block):
        tokens = torch.tensor(text)
        canvases = torch.where(patterns(block), mask, tokens)
        logits = torch.stack([table[tuple(canvas)] for canvas in canvases.tolist()])
        told = subs(logits, canvases, mask).gather(-1, tokens.expand(len(canvases), -1)[..., None])[..., 0]
        total += float((-exact_nll(told)).exp())
        bounded += float((-exact_nelbo(told)).exp())
    assert total == pytest.approx(1, rel=1e-12)
    assert bounded < 1


def test_one_level_lies_in_every_stratum() -> None:
    from conformance.oracles.likelihood import stratified

    for start in (1e-3, 0.5, 1.0):
        levels = stratified(start, 7)
        assert (levels > 0).all()
        assert (levels <= 1).all()
        assert [math.ceil(7 * level) for level in levels.tolist()] == [1, 2, 3, 4, 5, 6, 7]
