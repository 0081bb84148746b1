"""Dream's equations: equal to the miniature in every layout, under every variant of its config, in fp32 and fp64."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.dream import SPEC

FIXTURE = checkpoint.fixture_folder("dream")
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "heads of their own": {"num_key_value_heads": 4},
    "one head of keys": {"num_key_value_heads": 1},
    "wide heads": {"num_attention_heads": 2, "num_key_value_heads": 1},
    "four layers": {"num_hidden_layers": 4},
    "odd length": {"max_position_embeddings": 17},
    "another base": {"rope_theta": 100.0},
    "a large epsilon": {"rms_norm_eps": 0.1},
    "without a cache": {"use_cache": False},
}
TUPLES = ("rotary_emb.hook_out", "blocks.{layer}.hook_out", "blocks.{layer}.attn.hook_out")
"""What the model hands on as tuples: tables, streams and attention; each is the next module's input."""


def boot_of(fields: dict[str, Any]) -> Any:
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_equations_are_those_of_the_miniature(name: str) -> None:
    import torch

    boot = boot_of(VARIANTS[name])
    for dtype in (torch.float32, torch.float64):
        model = boot.construct().to(dtype)
        for pair in boot.pairs.values():
            _compare(boot, model, pair.draw(2, 7), dtype)


def _compare(boot: Any, model: Any, inputs: dict[str, Any], dtype: Any) -> None:
    """Logits and both sides of every module, whose norms and softmax the model computes in fp32 in any dtype."""
    import torch

    from conformance import taps
    from conformance.compare import ulp
    from conformance.oracles.dream import forward
    from conformance.spec import places

    exact = taps.record_oracle(forward, boot.params, boot.config, inputs, torch.float64)
    mask = inputs.get("attention_mask")
    if mask is not None and mask.is_floating_point():
        inputs = {**inputs, "attention_mask": mask.to(dtype)}
    call = partial(model, **inputs)
    reference = taps.record_modules(lambda: call().logits, model, SPEC.points, boot.layers)
    for tap in reference.taps:
        got = exact.joined(tap)
        # By head in the equations, side by side in the module.
        want = reference.joined(tap).double().reshape(got.shape)
        assert (got - want).abs().max() <= 128 * ulp(want), tap
    assert set(reference.strange) == {tap for pattern in TUPLES for tap in places(pattern, boot.layers)}
    points = sum(boot.layers if "{layer}" in point else 1 for point in SPEC.points)
    assert len(reference.taps) + len(reference.strange) == 2 * points
    assert (exact.logits - reference.logits).abs().max() <= 128 * ulp(reference.logits)


@pytest.mark.parametrize("kind", ["full", "positions", "padded", "heads apart", "one row for all"])
def test_masks_and_positions_in_other_words_are_those_of_the_miniature(kind: str) -> None:
    import torch

    from conformance.oracles.dream import forward

    boot = boot_of({})
    ids, n = boot.pairs["plain"].inputs["input_ids"], boot.sizes["n"]
    index = torch.arange(n)
    allowed = (index[:, None] // 4 >= index // 4)[None, None]
    keep = (index >= 5)[None].expand(2, -1).clone()
    keep[1] = index >= 2
    inputs: dict[str, Any] = {"input_ids": ids}
    if kind == "full":
        inputs["attention_mask"] = "full"
    if kind in ("positions", "padded"):
        inputs["position_ids"] = (keep.long().cumsum(-1) - 1).masked_fill(~keep, 1)
    if kind == "padded":
        inputs["attention_mask"] = keep[:, None, :, None] & keep[:, None, None, :]
    if kind == "heads apart":
        inputs["attention_mask"] = torch.cat([allowed, allowed.mT, allowed | allowed.mT, allowed], dim=1)
    if kind == "one row for all":
        inputs["attention_mask"] = allowed
    with torch.no_grad():
        want = boot.reference(**inputs).logits
    assert want.isfinite().all()
    assert (forward(boot.params, boot.config, inputs, lambda _, x: x) - want).abs().max() < 1e-5
