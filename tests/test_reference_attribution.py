"""Attribution: what the parts of a stream with gates and modulated norms give to layers and logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from declaring import HALVES, RUN, ids

from conformance.adapters.bd3lm_reference import SPEC


@pytest.fixture(scope="module")
def boot() -> Any:
    from conformance import checkpoint
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC), trusted=True)


@pytest.mark.parametrize("variant", ["conditioned on noise", "without adaLN"])
@pytest.mark.parametrize("layout", [(ids(42), HALVES), (ids(8), RUN)], ids=["train", "sample"])
def test_attribution_counts_gates_and_modulation(boot: Any, variant: str, layout: Any) -> None:
    """All parts of the stream sum to it, and what they give to a layer or a token is what it reads, but the shift."""
    bridge, (tokens, arguments) = boot.variants[variant].boot_again(), layout
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(tokens, **arguments)
    length, conditioned = logits.shape[1], variant != "without adaLN"

    def shift(name: str) -> Any:
        return cache[name][:, None] if conditioned else 0

    def same(got: torch.Tensor, want: torch.Tensor) -> None:
        torch.testing.assert_close(got, want, atol=2e-5, rtol=0)

    for neurons in (False, True):
        whole = cache.get_full_resid_decomposition(expand_neurons=neurons)
        same(whole.sum(0), cache["blocks.1.hook_resid_post"])
        half = cache.get_full_resid_decomposition(1, mlp_input=True, expand_neurons=neurons, apply_ln=True)
        same(half.sum(0) + shift("blocks.1.hook_shift_mlp"), cache["blocks.1.mlp.hook_in"])
        entry = cache.get_full_resid_decomposition(1, expand_neurons=neurons, apply_ln=True, pos_slice=3)
        same((entry.sum(0)[:, None] + shift("blocks.1.hook_shift_attn"))[:, 0], cache["blocks.1.attn.hook_in"][:, 3])
        direction = bridge.W_U[:, 3]
        told = cache.get_full_resid_decomposition(expand_neurons=neurons, apply_ln=True, project_output_onto=direction)
        last = shift("backbone.hook_shift_final")
        same((told.sum(0) + (last @ direction if conditioned else 0))[:, :length] + bridge.b_U[3], logits[..., 3])
    stack = cache.decompose_resid(mode="all")
    attributed = cache.logit_attrs(stack, tokens=3, incorrect_tokens=5).sum(0)
    direction = bridge.W_U[:, 3] - bridge.W_U[:, 5]
    constant = (last @ direction if conditioned else 0) + bridge.b_U[3] - bridge.b_U[5]
    same((attributed + constant)[:, :length], logits[..., 3] - logits[..., 5])
    read = cache.accumulated_resid(apply_ln=True)[-1]
    same((read @ bridge.W_U + bridge.b_U)[:, :length], logits)


def test_heads_are_counted_with_their_gate(boot: Any) -> None:
    """With the remainder, with some positions, and before any head."""
    with torch.no_grad():
        _, cache = boot.bridge.run_with_cache(ids(), **RUN)
    heads = cache.stack_head_results().unflatten(0, (2, 4))
    for layer in range(2):
        torch.testing.assert_close(heads[layer].sum(0), cache[f"blocks.{layer}.hook_attn_out"])
    stack, labels = cache.stack_head_results(layer=1, incl_remainder=True, return_labels=True)
    assert labels == ["L0H0", "L0H1", "L0H2", "L0H3", "remainder"]
    torch.testing.assert_close(stack.sum(0), cache["blocks.0.hook_resid_post"])
    torch.testing.assert_close(cache.stack_head_results(pos_slice=(2, 5)), cache.stack_head_results()[:, :, 2:5])
    none = cache.stack_head_results(layer=0, incl_remainder=True)
    torch.testing.assert_close(none[0], cache["hook_embed"])
