"""Sums with a part too many, stacks out of step, heads that no one saw, and a lens that leaves out a step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import algebra, first

if TYPE_CHECKING:
    from ...subject import Boot


def gated(boot: Boot) -> None:
    """Refuse models that add to their stream what no gate has scaled: they modulate no norm either."""
    first((branch for branch in boot.spec.branches if not isinstance(branch.gate, float)), "a gate on a branch")


@mutant(kills="cache/decompose")
def one_layer_too_many(boot: Boot) -> None:
    """`decompose_resid(layer=k)` adds up to the end of layer k, not to its start."""
    from transformer_lens import ActivationCache

    def decompose_resid(cache: Any, layer: int, **options: Any) -> Any:
        return ActivationCache.decompose_resid(cache, min(layer + 1, boot.layers), **options)

    algebra(boot, decompose_resid=decompose_resid)


@mutant(kills="cache/accumulated")
def halves_before_wholes(boot: Boot) -> None:
    """Each layer's middle stands in the stack before its start, under the labels of the right order."""
    from transformer_lens import ActivationCache

    def accumulated_resid(cache: Any, **options: Any) -> Any:
        stack, labels = ActivationCache.accumulated_resid(cache, **options)
        swapped = list(range(len(labels)))
        swapped[:2] = 1, 0
        return stack[swapped], labels

    algebra(boot, accumulated_resid=accumulated_resid)


@mutant(kills="cache/head-results")
def heads_out_of_thin_air(boot: Boot) -> None:
    """Where attention shows no heads, its output is dealt out to as many as the config names."""

    def stack_head_results(cache: Any) -> Any:
        import torch

        heads, outs = cache.model.cfg.n_heads, [cache["attn_out", layer] for layer in range(boot.layers)]
        return torch.stack([out / heads for out in outs for _ in range(heads)])

    algebra(boot, stack_head_results=stack_head_results)


@mutant(kills="cache/logit-lens")
def lens_without_the_last_modulation(boot: Boot) -> None:
    """The lens reads any model's stream by its last norm and unembedding, whatever else lies on the way."""
    gated(boot)

    def logit_lens(cache: Any, **options: Any) -> Any:
        bridge, stream = cache.model, cache["resid_post", boot.layers - 1]
        return SimpleNamespace(values=bridge.unembed(bridge.ln_final(stream))[None])

    algebra(boot, logit_lens=logit_lens)


@mutant(kills="cache/head-results")
def heads_without_their_gate(boot: Boot) -> None:
    """Heads are stacked as attention puts them out, before the gate through which they enter the stream."""
    gated(boot)

    def stack_head_results(cache: Any) -> Any:
        from transformer_lens import ActivationCache

        return ActivationCache.stack_head_results(cache)

    algebra(boot, stack_head_results=stack_head_results)
