"""The cache of keys and values that BD3LM's layers keep: opened for a run, and gone after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def open_cache(model: Any, batch: int) -> None:
    """Give every layer room for n tokens; the model's own `reset_kv_cache` insists on CUDA and bfloat16."""
    for layer in model.backbone.blocks:
        weight = layer.attn_qkv.weight
        layer.kv_cache, layer.cache_idx = weight.new_zeros(batch, layer.n, weight.shape[0]), 0


def close_cache(model: Any) -> None:
    """Forget what was kept."""
    for layer in model.backbone.blocks:
        layer.kv_cache, layer.cache_idx = None, 0


@contextmanager
def cache_for(model: Any, batch: int | None) -> Iterator[None]:
    """An empty cache for a batch, or surely none; it is closed afterwards, whatever happens."""
    close_cache(model)
    if batch is not None:
        open_cache(model, batch)
    try:
        yield
    finally:
        close_cache(model)
