"""Exact counts of one forward: dispatched operators and floating-point operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class _Operators(TorchDispatchMode):
    """Counts every operator that reaches the dispatcher, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operators(call: Callable[[], object]) -> dict[str, int]:
    """Operators dispatched by `call`, by name; the second run is counted, when caches are warm."""
    call()
    with _Operators() as mode:
        call()
    return dict(sorted(mode.counts.items()))


def flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and attentions that `call` runs."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
