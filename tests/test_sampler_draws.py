"""What the reference sampler draws from, and when, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _imported(warm: None) -> None:
    """torch is there."""


def tensor(values: Any) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def close(got: Any, want: Any) -> bool:
    import torch

    return torch.allclose(got, tensor(want), atol=1e-12, rtol=0)


def test_the_noise_level_is_loglinear_and_ends() -> None:
    from conformance.reference.draws import sigma_of

    want = [0.0, math.log(2), math.log(10), math.log(1000), math.log(1000), math.log(1000)]
    assert close(sigma_of(tensor([0, 0.5, 0.9, 0.999, 0.9999, 1])), want)


def test_subs_bans_the_mask_and_keeps_what_is_revealed() -> None:
    import torch

    from conformance.reference.draws import subs

    logits = tensor([[[0, math.log(3), 7], [1, 2, 3]]]).float()
    got = subs(logits, torch.tensor([[2, 0]]), mask=2)
    assert got.dtype == torch.float64
    assert torch.allclose(got.exp(), tensor([[[0.25, 0.75, 0], [1, 0, 0]]]), atol=1e-6, rtol=0)
    assert got[0, 0, 2] == got[0, 1, 1] == -math.inf


@pytest.mark.parametrize(
    ("mass", "want"),
    [
        # 0.5, 0.75, 0.875 and 1 are the cumulative probabilities, exact in binary.
        (1.0, [0.125, 0.5, 0.125, 0.25]),
        (0.875, [1 / 7, 4 / 7, 0, 2 / 7]),
        (0.8, [0, 2 / 3, 0, 1 / 3]),
        (0.75, [0, 2 / 3, 0, 1 / 3]),
        # The token that crosses is out, unless it is the first.
        (0.74, [0, 1, 0, 0]),
        (0.1, [0, 1, 0, 0]),
    ],
)
def test_the_nucleus_is_what_lies_within(mass: float, want: list[float]) -> None:
    from conformance.reference.draws import nucleus

    given = [[0.125, 0.5, 0.125, 0.25], [0, 0, 1, 0]]
    assert close(nucleus(tensor(given), mass), [want, [0, 0, 1, 0]])


def test_the_whole_mass_leaves_out_nothing_that_rounding_puts_beyond_it() -> None:
    from conformance.reference.draws import nucleus

    assert 0.55 + 0.34 + 0.11 > 1
    assert close(nucleus(tensor([0.55, 0.34, 0.11]), 1.0), [0.55, 0.34, 0.11])


def test_a_race_is_won_by_the_first_to_arrive() -> None:
    from conformance.reference.draws import race

    # Token v arrives at -log(u) / p: 1.39, 1.33 and never.
    probs, uniform = tensor([0.5, 0.5 + 0.02, 0]), tensor([0.5, 0.5, 0.999])
    assert race(probs, uniform) == 1
    assert race(probs, tensor([0.51, 0.5, 0.999])) == 1
    assert race(probs, tensor([0.52, 0.5, 0.999])) == 0
    # Numbers at both ends of their range.
    assert race(tensor([1e-300, 0]), tensor([0, 1 - 2**-53])) == 0
    assert race(tensor([0, 1]), tensor([0, 0])) == 1


def test_races_are_won_as_often_as_is_probable() -> None:
    import torch

    from conformance.reference.draws import race, uniforms

    probs = tensor([0.6, 0.3, 0.1, 0.0])
    rows = [torch.Generator().manual_seed(1)]
    won = race(probs.expand(40_000, 4), uniforms(rows, torch.tensor([True]), 40_000, 4)[0])
    # Four standard deviations.
    for count, p in zip(won.bincount(minlength=4).tolist(), probs.tolist(), strict=True):
        assert abs(count / 40_000 - p) <= 4 * math.sqrt(p * (1 - p) / 40_000)


def test_a_token_stays_masked_in_proportion_to_the_time_left() -> None:
    from conformance.reference.draws import diluted

    probs = tensor([[[0.25, 0.75, 0]], [[1, 0, 0]]])
    got = diluted(probs, 2, t=tensor([0.8, 0.25]), s=tensor([0.6, 0]))
    assert close(got, [[[0.0625, 0.1875, 0.75]], [[1, 0, 0]]])
    assert close(probs, [[[0.25, 0.75, 0]], [[1, 0, 0]]])


def test_the_next_token_comes_at_the_latest_of_as_many_times_as_there_are_masks() -> None:
    import torch

    from conformance.reference.draws import first_hit

    got = first_hit(tensor([1, 0.5, 0.5, 0.7]), tensor([0.25, 0.25, 0.125, 0.3]), torch.tensor([1, 2, 3, 0]))
    assert close(got, [0.25, 0.25, 0.25, 0.7])


def test_one_masked_position_is_chosen_and_each_as_easily() -> None:
    import torch

    from conformance.reference.draws import one_of

    masked = torch.tensor([[True, False, True, True]])
    for uniform, column in ((0, 0), (0.333, 0), (0.334, 2), (0.666, 2), (0.667, 3), (1 - 2**-53, 3)):
        assert one_of(masked, tensor([uniform])).nonzero().tolist() == [[0, column]]
    assert not one_of(torch.zeros(1, 4, dtype=torch.bool), tensor([0.5])).any()


def test_rows_draw_from_generators_of_their_own_and_only_when_they_need_to() -> None:
    import torch

    from conformance.reference.draws import generators, uniforms

    rows = generators(4, 3)
    first = uniforms(rows, torch.tensor([True, False, True]), 2)
    second = uniforms(rows, torch.tensor([False, True, True]), 2)
    for seed, want in ((4, first[0]), (5, second[1]), (6, torch.cat((first[2], second[2])))):
        own = torch.Generator().manual_seed(seed)
        assert want.equal(torch.rand(len(want), generator=own, dtype=torch.float64))
    assert not first[1].any()
    assert not second[0].any()
    again = uniforms(generators([6, 4], 2), torch.tensor([True, True]), 2)
    assert again.equal(torch.stack((first[2], first[0])))


def test_entropy_is_that_of_the_tokens_counts() -> None:
    import torch

    from conformance.reference.stops import entropy

    got = entropy(torch.tensor([[3, 3, 3, 3], [1, 2, 3, 4], [1, 1, 2, 3]]))
    assert close(got, [0, math.log(4), 1.5 * math.log(2)])
