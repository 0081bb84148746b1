"""Exact counts of one call: dispatched operators, floating-point operations and calls of Python functions."""

from __future__ import annotations

import math
import sys
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
    aten = torch.ops.aten
    fused = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        call()
    return int(counter.get_total_flops())


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Two products for each head, from the shapes `batch head pos d_head`; torch counts its kernels on the CPU as 0."""
    rows, (keys, width) = math.prod(query[:-1]), value[-2:]
    return 2 * rows * keys * (query[-1] + width)


def _attention_backward(_: Sequence[int], *shapes: Any, **__: Any) -> int:
    """Each product of the forward has two on the way back; what a kernel computes anew to save memory is not counted.

    That way the same attention counts the same in either form.
    """
    return 2 * _attention(*shapes[:3])


INLINED = frozenset(("<listcomp>", "<dictcomp>", "<setcomp>"))
"""Functions that are none from Python 3.12 on."""


def calls(call: Callable[[], object]) -> int:
    """Python functions that `call` calls, itself left out; the second run is counted, when caches are warm."""
    count = -1

    def called(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_name not in INLINED

    call()
    before = sys.getprofile()
    sys.setprofile(called)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count
