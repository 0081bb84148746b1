"""Masks as they are written: every encoding in which who may attend to whom is handed over to a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Encoding = Callable[["Tensor", "Tensor", int], "Tensor"]
"""`encode(keep, allowed, heads)`: which tokens count, bool `batch key`, or who sees whom, bool `batch query key`."""

# The logarithm of 1 and 0 is what an additive mask holds, 0 and -inf.
ENCODINGS: Mapping[str, Encoding] = {
    "2-D int": lambda keep, allowed, heads: keep.long(),
    "2-D bool": lambda keep, allowed, heads: keep,
    "2-D float 0/1": lambda keep, allowed, heads: keep.float(),
    "2-D additive": lambda keep, allowed, heads: keep.float().log(),
    "3-D bool": lambda keep, allowed, heads: allowed,
    "4-D bool": lambda keep, allowed, heads: allowed[:, None],
    "4-D float 0/1": lambda keep, allowed, heads: allowed[:, None].float(),
    "4-D additive": lambda keep, allowed, heads: allowed[:, None].float().log(),
    "4-D bool per head": lambda keep, allowed, heads: allowed[:, None].repeat(1, heads, 1, 1),
    "4-D bool for all rows": lambda keep, allowed, heads: allowed[:1, None],
}
"""Every way in which a mask is written; with queries it is the layout's relation less the hidden keys, so that it does
not matter whether a model takes it for its own or on top of its own."""

KEYS_ONLY = frozenset(name for name in ENCODINGS if name.startswith("2-D"))
"""Encodings that cannot say who sees whom, only which tokens count for everyone."""
