"""Edits made alike on a bridge and in the oracle: seeded pushes at hooks, all at once or one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import compare, taps

if TYPE_CHECKING:
    from .pair import Pair

ROWS = 8
"""Hooks that share a forward when they are pushed one by one; each has a row of the batch to itself."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Logits after a push at `name`, how far they went, and where the oracle says that they go.

    `want` is None at a tap that the oracle does not have.
    """

    name: str
    got: Tensor
    moved: float
    want: Tensor | None
    allowed: float

    @property
    def right(self) -> bool:
        """Whether the oracle agrees; without one nothing is said."""
        return self.want is not None and compare.distance(self.got, self.want) <= self.allowed


@dataclass(frozen=True, slots=True)
class _Push:
    """What is added at one hook: all of its firings joined, in one row of the batch or, `...`, in the whole tensor."""

    row: int | EllipsisType
    joined: Tensor
    lengths: tuple[int, ...]

    def parts(self) -> Iterator[Tensor]:
        """The push of one firing after another."""
        axis = 1 if self.row is ... else 0
        yield from self.joined.split(self.lengths, dim=axis) if len(self.lengths) > 1 else (self.joined,)

    def on(self, tensor: Tensor, part: Tensor) -> Tensor:
        """The pushed tensor."""
        edited = tensor.clone()
        edited[self.row] += part.to(tensor.dtype)
        return edited


def effects(pair: Pair, names: Sequence[str]) -> Iterator[Effect]:
    """Push every hook in `names`, in one forward as long as all goes right, one by one where it does not."""
    judged = [name for name in names if _judged(pair, name)]
    if judged:
        joint = _together(pair, judged)
        single = [] if joint.right else list(_apart(pair, judged))
        yield from single
        if all(effect.right for effect in single):
            yield joint
    yield from _apart(pair, [name for name in names if name not in judged])


def _judged(pair: Pair, name: str) -> bool:
    """Whether the oracle has this very tensor; a hook that fires on another part of the stream has another."""
    return name in pair.exact.taps and pair.exact.joined(name).shape == pair.observed.joined(name).shape


def _together(pair: Pair, names: Sequence[str]) -> Effect:
    pushes = {name: _push(pair, name, ..., seed) for seed, name in enumerate(names)}
    got, exact, rounded = _pushed(pair, pushes, pair.inputs)
    return Effect("every hook at once", got, compare.distance(got, pair.plain), exact, compare.budget(rounded, exact))


def _apart(pair: Pair, names: Sequence[str]) -> Iterator[Effect]:
    batch = len(pair.plain)
    rows = [name for name in names if pair.observed.taps[name][0].shape[:1] == (batch,)]
    for start in range(0, len(rows), ROWS):
        group = rows[start : start + ROWS]
        yield from _by_row(pair, {name: _push(pair, name, row, row) for row, name in enumerate(group)})
    for name in names:
        if name not in rows:
            # A tensor that all rows share cannot be pushed for one of them.
            yield from _by_row(pair, {name: _push(pair, name, ..., 0)})


def _by_row(pair: Pair, pushes: Mapping[str, _Push]) -> Iterator[Effect]:
    got, exact, rounded = _pushed(pair, pushes, pair.batched(len(pushes)))
    for row, name in enumerate(pushes):
        moved = compare.distance(got[row], pair.plain[0])
        want = exact[row] if _judged(pair, name) else None
        yield Effect(name, got[row], moved, want, compare.budget(rounded[row], exact[row]))


def _push(pair: Pair, name: str, row: int | EllipsisType, seed: int) -> _Push:
    calls, whole = pair.observed.taps[name], pair.observed.joined(name)
    value = whole if row is ... else whole[0]
    spread = 0.5 * value.std(correction=0).nan_to_num(0.0) + 0.1
    drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
    return _Push(row, drawn * spread, () if len(calls) == 1 else tuple(call.shape[1] for call in calls))


def _pushed(pair: Pair, pushes: Mapping[str, _Push], inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the bridge, of the oracle in fp64 and of the oracle in fp32, under the same pushes."""
    left = {name: push.parts() for name, push in pushes.items()}

    def edit(tensor: Tensor, hook: Any) -> Tensor | None:
        part = next(left[hook.name], None)
        return None if part is None else pushes[hook.name].on(tensor, part)

    got = pair.edited(pushes, edit, inputs)
    known = {name: push for name, push in pushes.items() if _judged(pair, name)}
    if not known:
        return got, got, got
    return got, _solved(pair, known, inputs, torch.float64), _solved(pair, known, inputs, torch.float32)


def _solved(pair: Pair, pushes: Mapping[str, _Push], inputs: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """Logits of the oracle under the pushes that it has taps for."""
    boot, oracle = pair.boot, pair.boot.oracle
    assert oracle is not None
    boot.forwards["oracle"] += 1

    def push(name: str, tensor: Tensor) -> Tensor:
        return pushes[name].on(tensor, pushes[name].joined) if name in pushes else tensor

    def edited(params: Any, config: Any, arguments: Any, _: Any) -> Tensor:
        return oracle(params, config, arguments, push)

    return taps.record_oracle(edited, boot.params, boot.config, inputs, dtype).logits
