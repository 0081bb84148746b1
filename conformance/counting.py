"""Exact counts of one forward: dispatched operators and floating-point operations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
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
    fused = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        call()
    return int(counter.get_total_flops())


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Two products for each head, from the shapes `batch head pos d_head`; torch counts its kernels on the CPU as 0."""
    rows, (keys, width) = math.prod(query[:-1]), value[-2:]
    return 2 * rows * keys * (query[-1] + width)
