"""The objective of the reference adapter, against closed forms that are filled by the plain equations in fp64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

MASK, N = 66, 21
SIZES = (1, 3, 21)
PATHS = 1e-5
"""How far a bridge in fp32 may lie from the equations in fp64, in nats. Measured: 9e-7."""


@dataclass
class Equations:
    """A model that is called as a bridge is, and is nothing but equations, or a function of its own."""

    params: dict[str, Any]
    config: dict[str, Any]

    @property
    def original_model(self) -> Any:
        return SimpleNamespace(config=SimpleNamespace(**self.config))

    def __call__(self, ids: Any, timesteps: Any) -> Any:
        from conformance.oracles.bd3lm import forward

        return forward(self.params, self.config, {"input_ids": ids, "timesteps": timesteps}, lambda _, tensor: tensor)


class Uniform(Equations):
    """Whatever it sees, all tokens are as likely, the mask being most likely of all."""

    def __call__(self, ids: Any, timesteps: Any) -> Any:
        import torch

        return torch.where(torch.arange(MASK + 1) == MASK, 9.0, 2.5).expand(*ids[:, :N].shape, -1)


@pytest.fixture
def boot(miniature: Path) -> Any:
    from conformance.adapters.bd3lm import SPEC
    from conformance.subject import Boot

    return Boot(SPEC, miniature, trusted=True)


@pytest.fixture
def at(boot) -> Callable[..., Any]:
    """`at(3)`: the equations in blocks of three; other fields of the config, and another class, if wanted."""
    import torch

    def at(size: int, kind: type[Equations] = Equations, **fields: object) -> Equations:
        return kind(boot.params_in(torch.float64), {**boot.config, "block_size": size, **fields})

    return at


@pytest.fixture
def turned(boot) -> Callable[[int], Any]:
    """`turned(3)`: the bridge in blocks of three."""
    from conformance.adapters.bd3lm import turn_block_size

    def turned(size: int) -> Any:
        turn_block_size(boot.bridge, size)
        return boot.bridge

    return turned


def seeded(seed: int = 0) -> Any:
    import torch

    return torch.Generator().manual_seed(seed)


def text(rows: int = 1) -> Any:
    import torch

    return torch.randint(MASK, (rows, N), generator=seeded(7))


def scores(model: Equations, x_0: Any, hidden: Any) -> Any:
    """Log-probabilities of the text's tokens by the suite's own closed form, `batch pos`."""
    import torch

    from conformance.oracles.likelihood import subs

    x_t = torch.where(hidden, MASK, x_0)
    logits = model(torch.cat((x_t, x_0), dim=1), torch.zeros(len(x_0)))
    return subs(logits, x_t, MASK).gather(-1, x_0[..., None])[..., 0]


def every_pattern(size: int) -> tuple[Any, Any]:
    """The same text, and every pattern of a block in all blocks of a row, as `row pos` both."""
    from conformance.oracles.likelihood import patterns

    hidden = patterns(size).repeat(1, N // size)
    return text().expand(len(hidden), -1), hidden


def by_block(figures: Any, size: int) -> Any:
    """`row pos` of every pattern, as closed forms want it: `block pattern token`."""
    return figures.unflatten(-1, (N // size, size)).movedim(1, 0)


def expected(model: Any, size: int) -> Any:
    """The bound in expectation, for every block: over levels by quadrature, which is exact, and over all masks."""
    import numpy as np
    import torch

    from conformance.reference.objective import nelbo

    x_0, hidden = every_pattern(size)
    masked = hidden[:, :size].sum(-1).double()
    nodes, weights = np.polynomial.legendre.leggauss(4)
    total = torch.zeros(N // size, dtype=torch.float64)
    for level, share in zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist(), strict=True):
        chance = level**masked * (1 - level) ** (size - masked)
        costs = by_block(nelbo(model, x_0, t=level, masked=hidden), size).sum(-1)
        total += share * (costs * chance).sum(-1)
    return total.detach()


@pytest.mark.parametrize("size", SIZES)
def test_given_draws_cost_what_the_closed_form_says(at, turned, size: int) -> None:
    import torch

    from conformance.oracles import likelihood
    from conformance.reference.objective import nelbo

    x_0, model = text(rows=3), at(size)
    t = torch.rand(3, N // size, generator=seeded(1), dtype=torch.float64)
    chance = t.repeat_interleave(size, dim=1)
    hidden = torch.rand(3, N, generator=seeded(2)) < chance
    want = likelihood.nelbo(scores(model, x_0, hidden), hidden, chance)
    got = nelbo(model, x_0, t=t, masked=hidden)
    assert got.shape == (3, N)
    assert torch.allclose(got, want, atol=1e-12, rtol=0)
    assert (got[~hidden] == 0).all()
    assert (got[hidden] > 0).all()
    told = nelbo(turned(size), x_0, t=t, masked=hidden)
    assert torch.allclose(told * chance, want * chance, atol=PATHS, rtol=0)
    assert torch.equal(told, nelbo(turned(size), x_0, t=t, masked=hidden)), "nothing is drawn"


@pytest.mark.parametrize("size", [1, 3])
def test_its_expectation_is_the_exact_bound_and_no_less_than_the_likelihood(at, turned, size: int) -> None:
    import torch

    from conformance.oracles.likelihood import exact_nelbo, exact_nll

    told = by_block(scores(at(size), *every_pattern(size)), size)
    bound, likelihood = exact_nelbo(told), exact_nll(told)
    assert torch.allclose(expected(at(size), size), bound, atol=1e-11, rtol=0)
    assert torch.allclose(expected(turned(size), size), bound, atol=size * PATHS, rtol=0)
    gap = bound - likelihood
    assert torch.equal(gap, torch.zeros(N, dtype=torch.float64)) if size == 1 else (gap > 1e-6).all()


def test_blocks_of_one_give_the_likelihood_without_draws(at, turned) -> None:
    import torch

    from conformance.oracles.likelihood import exact_nll
    from conformance.reference.objective import nelbo, nll

    x_0, model = text(rows=2), at(1)
    told = scores(model, x_0, torch.ones_like(x_0, dtype=torch.bool))
    want = exact_nll(told[..., None, None])
    assert torch.allclose(nll(model, x_0), want, atol=1e-12, rtol=0)
    assert torch.allclose(nll(turned(1), x_0), want, atol=PATHS, rtol=0)
    assert torch.equal(nll(model, x_0), nelbo(model, x_0, eps=(1.0, 1.0), generator=seeded())), "all is hidden"
    assert torch.allclose(expected(model, 1), want[0], atol=1e-11, rtol=0)


def test_the_likelihood_of_the_first_token_is_that_of_one_canvas(boot, turned) -> None:
    import torch

    from conformance.reference.objective import nll

    got = nll(turned(1), text())
    alone = turned(1)(torch.tensor([[MASK]]), timesteps=torch.zeros(1), sample_mode=True)[0, 0, :MASK].detach()
    assert got[0, 0].item() == pytest.approx(-float(alone.double().log_softmax(-1)[text()[0, 0]]), abs=PATHS)


@pytest.mark.parametrize("size", SIZES)
def test_uniform_logits_cost_the_logarithm_of_all_but_the_mask(at, size: int) -> None:
    from conformance.reference.objective import nelbo

    draws, uniform = 400, math.log(MASK)
    costs = nelbo(at(size, Uniform), text(), draws=draws, generator=seeded(size))
    # A token costs 1/t with probability t: the variance over t in (1e-3, 1) is log(1000) - 1. Tokens of one block
    # share t but not what is hidden, and their costs are not correlated. Levels are drawn in strata: less than this.
    spread = uniform * math.sqrt((math.log(1e3) - 1) / (draws * N))
    assert abs(float(costs.mean()) - uniform) < 4 * spread


@pytest.mark.parametrize("size", SIZES)
def test_draws_come_as_near_to_the_bound_as_their_number_allows(at, size: int) -> None:
    import torch

    from conformance.oracles.likelihood import exact_nelbo
    from conformance.reference.objective import nelbo

    model, draws = at(size), 100
    means = nelbo(model, text(), draws=draws, generator=seeded(3)).mean()
    if size < N:
        want = exact_nelbo(by_block(scores(model, *every_pattern(size)), size)).sum() / N
    else:
        # 2^21 patterns are too many. The same sum by other draws: independent levels, and the suite's closed form.
        from conformance.oracles import likelihood

        x_0, t = text().expand(4 * draws, -1), likelihood.stratified(0.5, 4 * draws)[:, None]
        hidden = torch.rand(x_0.shape, generator=seeded(4), dtype=torch.float64) < t
        want = likelihood.nelbo(scores(model, x_0, hidden), hidden, t).mean()
    spread = float(want) * math.sqrt((math.log(1e3) - 1) / (draws * N))
    assert abs(float(means - want)) < 4 * spread


def test_levels_are_spread_evenly_over_rows_and_over_all(at) -> None:
    import torch

    from conformance.reference.objective import noise_levels

    rows, blocks = 5, 7
    levels = noise_levels(rows, blocks, seeded(), (0.0, 1.0))
    assert levels.shape == (rows, blocks)
    assert levels.dtype is torch.float64
    assert (levels > 0).all()
    assert (levels <= 1).all()
    assert torch.allclose(levels.flatten().sort().values.diff(), torch.tensor(1 / 35, dtype=torch.float64))
    assert torch.allclose(levels.sort(-1).values.diff(), torch.tensor(1 / 7, dtype=torch.float64))
    many = torch.stack([noise_levels(2, 3, seeded(seed), (0.2, 0.6)) for seed in range(400)])
    assert ((many > 0.2) & (many <= 0.6)).all()
    # Of a uniform level, the mean of 400 lies within 4 * 0.4 / sqrt(12 * 400) of the middle.
    assert ((many.mean(0) - 0.4).abs() < 0.024).all(), "every one of them is uniform by itself"
    assert (many.amin(0) < 0.21).all()
    assert (many.amax(0) > 0.59).all()


def test_no_level_is_zero_whatever_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from conformance.reference.objective import noise_levels

    monkeypatch.setattr(torch, "rand", lambda *shape, generator, dtype: torch.zeros(*shape, dtype=dtype))
    levels = noise_levels(2, 2, eps=(0.0, 1.0))
    assert sorted(levels.flatten().tolist()) == [0.25, 0.5, 0.75, 1.0]


def test_a_seed_makes_draws_repeat_and_more_draws_are_their_mean(at) -> None:
    import torch

    from conformance.reference.objective import nelbo

    x_0, model = text(rows=2), at(3)
    first, again, other = (nelbo(model, x_0, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    t = torch.linspace(0.1, 1, 14).reshape(2, 7)
    rows = nelbo(model, x_0.repeat(3, 1), t=t.repeat(3, 1), generator=seeded())
    assert torch.allclose(nelbo(model, x_0, t=t, draws=3, generator=seeded()), rows.unflatten(0, (3, 2)).mean(0))


def test_it_runs_the_bridge_once_in_the_training_view_at_the_noise_level_of_each_row(at) -> None:
    import torch

    from conformance.reference.objective import nelbo

    calls = []

    class Watched(Equations):
        def __call__(self, ids: Any, timesteps: Any) -> Any:
            calls.append((ids, timesteps))
            return super().__call__(ids, timesteps)

    x_0, t = text(rows=2), torch.linspace(0.1, 1, 14).reshape(2, 7)
    hidden = torch.rand(2, N, generator=seeded()) < 0.5
    nelbo(at(3, Watched), x_0, t=t, masked=hidden)
    ((ids, timesteps),) = calls
    assert torch.equal(ids, torch.cat((torch.where(hidden, MASK, x_0), x_0), dim=1))
    # sigma = -log(1 - t) of the first block, at most that of t = 0.999.
    assert torch.allclose(timesteps, torch.tensor([-math.log(0.9), -math.log1p(-float(t[1, 0]))]))
    nelbo(at(3, Watched), x_0, t=1.0, masked=hidden)
    assert torch.allclose(calls[-1][1], torch.full((2,), math.log(1e3)))


def test_a_model_that_is_conditioned_on_noise_hears_of_it(at) -> None:
    import torch

    from conformance.reference.objective import nelbo

    x_0, hidden = text(), torch.ones(1, N, dtype=torch.bool)
    for conditioned in (False, True):
        model = at(3, time_conditioning=conditioned)
        low, high = (nelbo(model, x_0, t=t, masked=hidden) * t for t in (0.25, 0.75))
        assert torch.allclose(low, high, atol=1e-12, rtol=0) is not conditioned


def test_the_first_token_may_be_given(at) -> None:
    import torch

    from conformance.reference.objective import nelbo, nll

    x_0, everything = text(), torch.ones(1, N, dtype=torch.bool)
    given = nelbo(at(3), x_0, t=0.5, masked=everything, ignore_bos=True)
    later = everything & (torch.arange(N) > 0)
    assert given[0, 0] == 0
    assert torch.equal(given, nelbo(at(3), x_0, t=0.5, masked=later))
    assert not torch.allclose(given[0, 1:3], nelbo(at(3), x_0, t=0.5, masked=everything)[0, 1:3])
    assert everything.all(), "what was given is left alone"
    assert torch.equal(nll(at(1), x_0, ignore_bos=True)[0, 1:], nll(at(1), x_0)[0, 1:])


def test_gradients_are_those_of_finite_differences(at) -> None:
    import torch

    from conformance.reference.objective import nelbo

    model, name = at(3), "backbone.blocks.0.attn_out.weight"
    weight = model.params[name].clone().requires_grad_()
    model.params = {**model.params, name: weight}
    direction = torch.randn(weight.shape, generator=seeded(), dtype=torch.float64)

    def cost(step: float = 0.0) -> Any:
        model.params = {**model.params, name: weight + step * direction}
        return nelbo(model, text(rows=2), generator=seeded(5)).mean()

    (slope,) = torch.autograd.grad(cost(), weight)
    with torch.no_grad():
        difference = (cost(1e-5) - cost(-1e-5)) / 2e-5
    assert slope.isfinite().all()
    assert abs(float(difference)) > 1e-4
    assert float((slope * direction).sum()) == pytest.approx(float(difference), rel=1e-6)


def test_gradients_reach_hooks_and_weights_of_a_bridge(turned) -> None:
    from conformance.reference.objective import nelbo

    bridge, seen = turned(3), []
    point = bridge.hook_dict["blocks.1.hook_resid_post"]
    point.add_hook(lambda grad, hook: seen.append(grad), dir="bwd")
    try:
        nelbo(bridge, text(), generator=seeded()).mean().backward()
    finally:
        point.remove_hooks("bwd")
    assert all(p.grad.isfinite().all() for p in bridge.original_model.parameters() if p.grad is not None)
    (grad,) = seen
    assert grad.shape[1] == 2 * N
    assert grad.abs().sum() > 0


def test_what_is_hidden_nowhere_costs_nothing_and_has_no_gradient(at) -> None:
    import torch

    from conformance.reference.objective import nelbo

    got = nelbo(at(3), text(), t=0.5, masked=torch.zeros(1, N, dtype=torch.bool))
    assert torch.equal(got, torch.zeros(1, N, dtype=torch.float64))


def everything(rows: int = 1) -> Any:
    import torch

    return torch.ones(rows, N, dtype=torch.bool)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"draws": 0}, "draws is 0, wanted at least 1"),
        ({"masked": everything}, "masked is one draw, in which a token weighs 1/t, wanted t with it, and draws=1"),
        (
            {"masked": everything, "t": 0.5, "draws": 2},
            "masked is one draw, in which a token weighs 1/t, wanted t with it, and draws=1",
        ),
        ({"t": 0.0}, "t has levels outside (0, 1], wanted the share of tokens that is hidden"),
        ({"t": 1.5}, "t has levels outside (0, 1], wanted the share of tokens that is hidden"),
        ({"t": math.nan}, "t has levels outside (0, 1], wanted the share of tokens that is hidden"),
        ({"t": [0.5, 0.5]}, "t is of shape (2,), wanted `batch blocks`, (1, 7)"),
        ({"t": [[0.5] * 7] * 2}, "t is of shape (2, 7), wanted `batch blocks`, (1, 7)"),
        ({"eps": (0.5, 0.1)}, "eps is (0.5, 0.1), wanted two levels in ascending order, from 0 to 1"),
        ({"eps": (0.0, 0.0)}, "eps is (0.0, 0.0), wanted two levels in ascending order, from 0 to 1"),
        ({"eps": (0.0, 2.0)}, "eps is (0.0, 2.0), wanted two levels in ascending order, from 0 to 1"),
        (
            {"masked": lambda: everything(2), "t": 0.5},
            "masked is torch.bool of shape (2, 21), wanted torch.bool of x_0's shape (1, 21)",
        ),
    ],
)
def test_draws_that_make_no_sense_are_refused(at, keywords: dict[str, Any], message: str) -> None:
    from conformance.reference.objective import nelbo

    with pytest.raises(ValueError, match=r".") as raised:
        nelbo(at(3), text(), **{name: each() if callable(each) else each for name, each in keywords.items()})
    assert str(raised.value) == message


def test_texts_that_do_not_fit_are_refused(at) -> None:
    import torch

    from conformance.reference.objective import nelbo, nll

    refused = {
        "x_0 has 20 tokens, wanted the model's context, 21": text()[:, :-1],
        "x_0 is torch.int64 of shape (21,), wanted ": text()[0],
        "x_0 has id 66 at [0, 0], wanted 0 to 65 (66 is the mask)": torch.full((1, N), MASK),
    }
    for message, x_0 in refused.items():
        for call in (lambda x_0=x_0: nelbo(at(3), x_0), lambda x_0=x_0: nll(at(1), x_0)):
            with pytest.raises(ValueError, match=r".") as raised:
                call()
            assert str(raised.value).startswith(message)


def test_a_likelihood_in_larger_blocks_is_refused(at) -> None:
    from conformance.reference.objective import nll

    with pytest.raises(ValueError, match=r".") as raised:
        nll(at(3), text())
    want = "the model's block size is 3, wanted 1: in larger blocks only the bound is known, nelbo"
    assert str(raised.value) == want
