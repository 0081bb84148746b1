"""Footprint: which memory a call took for tensors, at most and in the end, exactly and on any machine."""

from __future__ import annotations

import gc
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of tensors that operators made: alive together at most, and left when only the result was held.

    `left` counts neither what the result lies in nor what was there before.
    """

    peak: int
    left: int


class _Made(TorchDispatchMode):
    """Knows the storage of every tensor that an operator returned and no one had before, as long as it lives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before: dict[int, Any] = {}
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs or {})):
            if storage._cdata not in self.made:
                # Held, so that no other storage comes to lie where it was.
                self.before[storage._cdata] = storage
        got = func(*args, **(kwargs or {}))
        for storage in _storages(got):
            if storage._cdata not in self.before:
                self.made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(self.alive().values()))
        return got

    def alive(self) -> dict[int, int]:
        """Bytes by storage; what is gone is forgotten."""
        self.made = {key: (ref, size) for key, (ref, size) in self.made.items() if not ref.expired()}
        return {key: size for key, (_, size) in self.made.items()}


def of_call(call: Callable[[], object]) -> Footprint:
    """The footprint of one call."""
    with _Made() as mode:
        result = call()
    held = {storage._cdata for storage in _storages(result)}
    return Footprint(mode.peak, _left(mode, held))


def growth(calls: Sequence[Callable[[], object]], runs: int) -> int:
    """Bytes of tensors that so many runs or more, the calls in turn, leave beyond what the first of each did."""
    first = 0
    with _Made() as mode:
        for turn in range(-(-runs // len(calls))):
            for call in calls:
                call()
            if turn == 0:
                first = _left(mode, frozenset())
    return _left(mode, frozenset()) - first


def _left(mode: _Made, held: Container[int]) -> int:
    """Bytes that are alive and not held; only what a collection does not find counts as left."""
    left = sum(size for key, size in mode.alive().items() if key not in held)
    if left:
        gc.collect()
        left = sum(size for key, size in mode.alive().items() if key not in held)
    return left


def _storages(value: object) -> Iterator[Any]:
    """The storages of all tensors in a value, however deep; a cache is looked through, too."""
    if isinstance(value, Tensor):
        if value.layout is torch.strided and not value.is_meta:
            yield value.untyped_storage()
    elif isinstance(value, Mapping) or hasattr(value, "items"):
        for _, inner in value.items():
            yield from _storages(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _storages(inner)
