"""Counting: a fused attention is as much arithmetic as the same one spelled out."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("masked", [False, True])
def test_attention_counts_alike_in_either_form(masked: bool) -> None:
    import torch

    from conformance.counting import flops

    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 5, 8, generator=generator), torch.randn(2, 3, 7, 8, generator=generator)
    mask = torch.zeros(1, 1, 5, 7) if masked else None
    fused = flops(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k, attn_mask=mask))
    assert fused == flops(lambda: (q @ k.mT).softmax(-1) @ k)
    assert fused == 2 * 2 * (2 * 3 * 5 * 7 * 8)
