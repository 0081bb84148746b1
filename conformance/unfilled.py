"""Memory that nobody fills: while a model is loaded it is nan, and not whatever was there before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def nan_where_unfilled() -> Iterator[None]:
    """Let torch fill what is allocated and not initialised, with nan where it is of floats.

    A loader that forgets a table leaves in it what the memory held: often zeros, sometimes another model's table. As
    nan it is found in every process, and its verdicts are the same in all of them.
    """
    deterministic: Any = torch.utils.deterministic
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        deterministic.fill_uninitialized_memory = filling
