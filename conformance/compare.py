"""Tensors held against what is wanted, each within its budget."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

# Whoever compares finds the budgets here too; they stand apart so that they can be read without torch.
from .budgets import ORACLE as ORACLE
from .budgets import PATHS as PATHS
from .budgets import WITNESS as WITNESS
from .budgets import Allowed as Allowed
from .budgets import Budget as Budget
from .finding import Finding


def within(size: float, allowed: float) -> bool:
    """Whether a difference lies in its budget: the one place where the two meet."""
    return size <= allowed


def ulp(tensor: Tensor) -> float:
    """One unit in the last place, in fp32, of the tensor's largest entry that counts."""
    largest = torch.where(counted(tensor), tensor.abs(), 0).max().item() if tensor.numel() else 0.0
    return float(torch.finfo(torch.float32).eps * largest)


def counted(tensor: Tensor) -> Tensor:
    """Which entries are numbers to reckon with: a score that must not count is -inf, or the lowest number there is."""
    return tensor.abs() < torch.finfo(torch.float32).max / 2


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


def shape_of(tensor: Tensor) -> str:
    """Shape and dtype in one word, for messages: `float32[2, 42, 24]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def close(at: str, got: Tensor, want: Tensor, allowed: float, *, case: str = "", detail: str = "") -> Iterator[Finding]:
    """A finding unless `got` has the shape of `want` and lies within `allowed` of it."""
    if got.shape != want.shape:
        yield Finding("shape-mismatch", at, got=shape_of(got), want=shape_of(want), case=case, detail=detail)
    elif not within(size := distance(got, want), allowed):
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
