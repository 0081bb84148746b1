"""Comparisons: what is within a budget, what is bit-equal, and what a finding says."""

from __future__ import annotations

from typing import Any

import pytest


def tensor(*values: float, dtype: str = "float32") -> Any:
    import torch

    return torch.tensor(values, dtype=getattr(torch, dtype))


def test_within_the_budget_nothing_is_found() -> None:
    from conformance.compare import close

    assert not list(close("x", tensor(1.0, 2.0), tensor(1.0, 2.1), allowed=0.11))


def test_beyond_it_the_worst_entry_is_named_with_size_and_budget() -> None:
    from conformance.compare import close

    (finding,) = close("x", tensor(1.0, 2.0), tensor(1.0, 2.5), allowed=0.1, case="row 3")
    assert finding.line() == "x (row 3): value-mismatch: got 2 at [1], want 2.5 (off by 5.0e-01, allowed 1.0e-01)"


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ((1.0, float("nan")), (1.0, 2.0)),
        ((1.0, float("inf")), (1.0, 2.0)),
        ((1.0, 2.0), (1.0, float("-inf"))),
        ((float("nan"), 1.0), (float("nan"), 1.0)),
    ],
)
def test_what_is_not_finite_is_off_unless_both_are_the_same_infinity(
    got: tuple[float, ...], want: tuple[float, ...]
) -> None:
    from conformance.compare import close

    assert list(close("x", tensor(*got), tensor(*want), allowed=1e9))


def test_equal_infinities_agree() -> None:
    from conformance.compare import close

    assert not list(close("x", tensor(float("-inf"), 1.0), tensor(float("-inf"), 1.0), allowed=0.0))


def test_exact_wants_bits_shape_and_dtype() -> None:
    from conformance.compare import exact

    one = tensor(1.0, 2.0)
    assert not list(exact("x", one, one.clone()))
    assert [f.code for f in exact("x", one, one + tensor(0.0, 2e-7))] == ["not-bit-equal"]
    assert [f.code for f in exact("x", one, one.double())] == ["shape-mismatch"]
    assert [f.code for f in exact("x", one, one[None])] == ["shape-mismatch"]
