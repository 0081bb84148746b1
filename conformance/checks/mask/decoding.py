"""Decoding: block by block with keys and values kept, as text is made. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...facts import KeyValueCache
    from ...pair import Pair
    from ...subject import Boot

MOST_BLOCKS = 8
"""Blocks of a long stream that are decoded."""


@requirement("mask/kv-cache", level=MUST, needs=("parity/logits",))
def kv_cache(boot: Boot) -> Iterator[Finding]:
    """Decoding block by block with keys and values kept MUST give the logits of a recompute of the whole stream, the
    same bit for bit when a block is committed as when it was denoised, and leave nothing behind once the cache is
    closed.

    A row that is stale, or stands at another position, makes text that the model would not have written
    (TransformerLens: models that call their cache otherwise decoded as if there were no prompt).
    """
    from ...compare import exact
    from ...pair import blamed_on_subject

    cache = boot.spec.cache
    if cache is None:
        yield from _undeclared(boot)
        return
    pair = boot.pairs[cache.layout]
    with blamed_on_subject():
        # A bridge of its own: a cache that cannot be closed would break every later forward.
        bridge = boot.boot_again()
    before = pair.call(bridge=bridge)
    whole = _whole_blocks(pair)
    recomputed = whole.call(bridge=bridge)
    try:
        with blamed_on_subject():
            cache.open(bridge.original_model, len(whole.inputs["input_ids"]))
        yield from _decoded(whole, bridge, cache, recomputed)
    finally:
        with blamed_on_subject():
            cache.close(bridge.original_model)
    yield from exact("logits", pair.call(bridge=bridge), before, case="after the cache was closed")


def _undeclared(boot: Boot) -> Iterator[Finding]:
    """Where whoever is seen sees back, a new token changes all old keys and none can be kept; else a spec says how.

    A relation that the caller hands over is no model's own, and says nothing of what it keeps.
    """
    for pair in boot.pairs.values():
        if not pair.layout.handed() and (pair.relation & ~pair.relation.T).any():
            yield Finding("undeclared", pair.layout.name, got="no cache in the spec", want="how a user decodes with it")


def _whole_blocks(pair: Pair) -> Pair:
    """The pair on a stream of whole blocks that fits the model length."""
    import torch

    from ...pair import BATCH, SEED

    sizes = pair.boot.sizes
    n, block = sizes.get("n", pair.length), sizes.get("block", 1)
    length = min(n // block, MOST_BLOCKS) * block
    seeds = range(SEED, SEED + 1 + length // pair.length)
    ids = torch.cat([pair.draw(BATCH, seed)["input_ids"] for seed in seeds], dim=1)
    return pair.other(BATCH, SEED, input_ids=ids[:, :length])


def _decoded(whole: Pair, bridge: Any, cache: KeyValueCache, recomputed: Tensor) -> Iterator[Finding]:
    """Every block denoised on its own tokens and on others, and committed, while the cache is open."""
    from ...compare import PATHS, close, exact

    sizes, ids = whole.boot.sizes, whole.inputs["input_ids"]
    wanted, allowed = whole.reference.logits, whole.allowed("logits", PATHS)
    block = sizes.get("block", 1)
    for start in range(0, whole.length, block):
        here = slice(start, start + block)
        canvas = {**whole.inputs, "input_ids": ids[:, here]}
        earlier = {**canvas, "input_ids": (ids[:, here] + 1) % sizes["d_vocab"]}
        denoised = whole.call(canvas, bridge=bridge)
        # A canvas that was denoised and changed since must leave no trace.
        whole.call(earlier, bridge=bridge)
        committed = whole.call({**canvas, **cache.commit}, bridge=bridge)
        case = f"block {start // block}"
        yield from close("logits", denoised, wanted[:, here], allowed, case=f"{case}, recomputed by the reference")
        yield from close("logits", denoised, recomputed[:, here], allowed, case=f"{case}, recomputed by the bridge")
        yield from exact("logits", committed, denoised, case=f"{case}, committed after it was denoised")
