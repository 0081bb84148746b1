"""Tolerances as budgets: how far a tensor may lie from what is wanted, and where that figure comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .finding import Finding

NOISE_MULTIPLE = 8.0
"""A budget is this multiple of the noise floor measured at the same tap."""

LEAST_ULPS = 8.0
"""No budget is smaller than this many units in the last place of the tensor's largest entry."""

ORACLE_ULPS = 128.0
"""How far reference and oracle may lie apart, in the same units, before neither may judge."""


def ulp(tensor: Tensor) -> float:
    """One unit in the last place, in fp32, of the tensor's largest entry."""
    largest = tensor.abs().max().item() if tensor.numel() else 0.0
    return float(torch.finfo(torch.float32).eps * largest)


def distance(got: Tensor, want: Tensor) -> float:
    """Largest absolute difference, in fp64 where either is; infinite where only one of the two is finite."""
    if not got.numel():
        return 0.0
    got, want = (t.detach() if t.is_floating_point() else t.double() for t in (got, want))
    largest = float((got - want).abs_().max())
    if math.isfinite(largest):
        return largest
    apart = torch.where(got == want, torch.zeros((), dtype=got.dtype), (got.double() - want.double()).abs())
    return float(apart.nan_to_num(nan=torch.inf).max())


def budget(want: Tensor, noise: float) -> float:
    """How far a tensor may lie from what is wanted, when fp32 arithmetic by itself moves it by `noise`."""
    return max(LEAST_ULPS * ulp(want), NOISE_MULTIPLE * noise)


def shape_of(tensor: Tensor) -> str:
    """Shape and dtype in one word, for messages: `float32[2, 42, 24]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def close(at: str, got: Tensor, want: Tensor, allowed: float, *, case: str = "", detail: str = "") -> Iterator[Finding]:
    """A finding unless `got` has the shape of `want` and lies within `allowed` of it."""
    if got.shape != want.shape:
        yield Finding("shape-mismatch", at, got=shape_of(got), want=shape_of(want), case=case, detail=detail)
    elif (size := distance(got, want)) > allowed:
        where = worst(got, want)
        yield Finding(
            "value-mismatch",
            at,
            got=f"{got[where].item():.4g} at {list(where)}",
            want=f"{want[where].item():.4g}",
            size=size,
            allowed=allowed,
            case=case,
            detail=detail,
        )


def exact(at: str, got: Tensor, want: Tensor, *, case: str = "", detail: str = "") -> Iterator[Finding]:
    """A finding unless both tensors are equal bit for bit, shape and dtype included."""
    if got.shape != want.shape or got.dtype != want.dtype:
        yield Finding("shape-mismatch", at, got=shape_of(got), want=shape_of(want), case=case, detail=detail)
    elif not torch.equal(got, want):
        where = worst(got, want)
        yield Finding(
            "not-bit-equal",
            at,
            got=f"{got[where].item():.9g} at {list(where)}",
            want=f"{want[where].item():.9g}",
            size=distance(got, want),
            case=case,
            detail=detail,
        )


def worst(got: Tensor, want: Tensor) -> tuple[int, ...]:
    """Index of the largest difference."""
    apart = (got.double() - want.double()).abs().nan_to_num(nan=torch.inf)
    return tuple(int(i) for i in torch.unravel_index(apart.argmax(), apart.shape))
