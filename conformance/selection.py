"""Selections: which hooks, kinds, steps and columns of the canvas a trace is about."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .denoising import Kind, Step

Names = str | Collection[str] | Callable[[str], bool] | None
Steps = int | Collection[int] | slice | Callable[[Step], bool] | None
Columns = int | Collection[int] | slice | Tensor
Positions = Columns | Callable[[Step], Columns] | None
Kinds = str | Collection[str] | None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Hooks by their canonical names, each asked for by name, or all that a function matched."""

    names: Sequence[str]
    by_name: bool

    def with_each(self, function: Callable[..., Any]) -> list[tuple[Any, Callable[..., Any]]]:
        """What `bridge.hooks` takes: it refuses hooks that are switched off, or warns where they were only matched."""
        return [(name, function) for name in self.names] if self.by_name else [(set(self.names).__contains__, function)]


def hooks_of(bridge: Any, wanted: Names, argument: str) -> Hooks:
    """The hooks that a filter means, as `run_with_cache` takes it; ValueError if it means none, or what is none."""
    points = bridge.hook_dict
    if wanted is None or callable(wanted):
        meant = [name for name in points if wanted is None or wanted(name)]
        if not meant:
            raise ValueError(f"{argument} matches none of the {len(points)} names in bridge.hook_dict")
    else:
        if not isinstance(wanted, Collection):
            raise TypeError(f"{argument} is {wanted!r}, wanted a name, names or a function")
        meant = [wanted] if isinstance(wanted, str) else list(wanted)
        for name in meant:
            if name not in points:
                raise ValueError(f"{argument}: the bridge has no hook {name!r}{_meant(name, points)}")
    matched = wanted is None or callable(wanted)
    return Hooks(list(dict.fromkeys(points[name].name for name in meant)), by_name=not matched)


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "; bridge.hook_dict has all names"


def kinds_of(wanted: Kinds, argument: str) -> frozenset[Kind]:
    """Kinds by name, all if not given."""
    if wanted is None:
        return frozenset(Kind)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in list(Kind):
            raise ValueError(f"{argument} has {name!r}, wanted some of {', '.join(Kind)}")
    return frozenset(map(Kind, names))


def steps_of(wanted: Steps) -> Callable[[Step], bool]:
    """Whether a step is wanted; numbers are those of the denoising step in its block, `Step.step`."""
    if wanted is None:
        return lambda step: True
    if callable(wanted):
        return wanted
    if not isinstance(wanted, int | slice | Collection):
        raise TypeError(f"steps is {wanted!r}, wanted a number, numbers, a slice or a function")
    numbers = _numbers(wanted)
    return lambda step: step.step in numbers


def _numbers(wanted: int | Collection[int] | slice) -> Collection[int]:
    if isinstance(wanted, slice):
        given = [part for part in (wanted.start, wanted.stop, wanted.step) if part is not None]
        numbers: Collection[int] = range(*wanted.indices(sys.maxsize))
    else:
        numbers = wanted if isinstance(wanted, range) else frozenset([wanted] if isinstance(wanted, int) else wanted)
        given = [numbers.start, numbers.step] if isinstance(numbers, range) else list(numbers)
    if any(number < 0 for number in given):
        raise ValueError(f"steps is {wanted!r}, wanted numbers from 0: how many a block takes shows when it ends")
    return numbers


def stops_at(stop: Callable[[Step], bool] | tuple[Any, ...] | None) -> Callable[[Step], bool]:
    """Whether a run ends before a step."""
    if stop is None:
        return lambda step: False
    if callable(stop):
        return stop
    if not isinstance(stop, tuple) or len(stop) not in (2, 3):
        raise TypeError(f"stop is {stop!r}, wanted a function, (block, step) or (block, step, kind)")
    kinds = kinds_of(stop[2:] or None, "stop")
    return lambda step: (step.block, step.step) == stop[:2] and step.kind in kinds


def stream_of(step: Step) -> range:
    """The canvas columns that the step's forward sees, in the order of its stream."""
    return range(*step.window.indices(step.canvas.shape[1]))


def columns_of(wanted: Positions, step: Step) -> list[int]:
    """The wanted columns of the canvas that the step's forward sees; negative ones count from the canvas's end."""
    stream, length = stream_of(step), step.canvas.shape[1]
    if wanted is None:
        return list(stream)
    asked = wanted(step) if callable(wanted) and not isinstance(wanted, Tensor) else wanted
    counted = (column + length if column < 0 else column for column in _listed(asked, length))
    return [column for column in dict.fromkeys(counted) if column in stream]


def _listed(asked: Columns, length: int) -> list[int]:
    if isinstance(asked, slice):
        return list(range(*asked.indices(length)))
    if isinstance(asked, int):
        return [asked]
    if not isinstance(asked, Tensor):
        return list(asked)
    if asked.dtype is not torch.bool:
        return [int(column) for column in asked.flatten().tolist()]
    if asked.shape[-1] != length:
        raise ValueError(f"positions is bool of shape {tuple(asked.shape)}, wanted one for each of {length} columns")
    anywhere = asked.reshape(-1, length).any(0)
    return [int(column) for column in anywhere.nonzero().flatten().tolist()]


def position_axis(bridge: Any, point: Any, tensor: Tensor, step: Step) -> int | None:
    """Which axis of a hook's tensor is the stream's position, None where none is, so that it is left whole.

    A hook point says that it has none by `positionless = True`, or which it is by TransformerLens's `pos_dim`; for
    others TransformerBridge's convention holds. That is never stretched, whatever the sizes: of tensors with two axes
    that declare nothing only ids are `batch pos`, others are `batch d`. An axis of another length than the stream's,
    such as that of keys kept from earlier forwards, is none of its positions.
    """
    if getattr(point, "positionless", False):
        return None
    declared = getattr(point, "pos_dim", None)
    axis: int = bridge._pos_slice_dim(point.name) if declared is None else declared
    shape = tuple(tensor.shape)
    if declared is None and len(shape) == 2:
        ids = not tensor.is_floating_point() and shape[0] == len(step.canvas)
        axis = axis if ids else len(shape)
    fits = -len(shape) <= axis < len(shape) and shape[axis] == len(stream_of(step))
    return axis if fits else None
