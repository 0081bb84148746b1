"""GIDD's equations: equal to the miniature in every layout, under every variant of its config, in fp32 and fp64."""

from __future__ import annotations

from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.gidd import SPEC

FIXTURE = checkpoint.fixture_folder("gidd")
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "other heads": {"num_attention_heads": 2},
    "three layers": {"num_hidden_layers": 3},
    "odd length": {"max_position_embeddings": 17},
    "another base": {"rope_theta": 100.0},
    "a large epsilon": {"rms_norm_eps": 0.1},
    "a tight cap": {"attn_soft_cap": 1.5},
    "scaled by inputs": {"weight_scaling": "fan_in"},
    "scaled by outputs": {"weight_scaling": "fan_out"},
    "other shares": {"resid_scale": 1.0, "head_scaling": 0.5},
    "without query and key norm": {"use_qk_norm": False},
    "without slot": {"attention_bias": False},
    "without MLP biases": {"mlp_bias": False},
}


def boot_of(fields: dict[str, Any]) -> Any:
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True)


@pytest.mark.parametrize("layout", [layout.name for layout in SPEC.layouts])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_equations_are_those_of_the_miniature(name: str, layout: str) -> None:
    import torch

    from conformance import taps
    from conformance.compare import ulp
    from conformance.oracles.gidd import forward

    boot = boot_of(VARIANTS[name])
    inputs = boot.pairs[layout].draw(2, 7)
    points = {
        point: path for point, path in SPEC.points.items() if boot.config["use_qk_norm"] or not path.endswith("_norm")
    }
    exact = taps.record_oracle(forward, boot.params, boot.config, inputs, torch.float64)
    for dtype in (torch.float32, torch.float64):
        model = boot.construct().to(dtype)
        # The model's own norms and softmax are in fp32 either way.
        reference = taps.record_modules(lambda model=model: model(**inputs).logits, model, points, boot.layers)
        for tap in reference.taps:
            got = exact.joined(tap)
            # By head in the equations, side by side in the module.
            want = reference.joined(tap).double().reshape(got.shape)
            assert (got - want).abs().max() <= 128 * ulp(want), tap
        # Layers and attention answer with dataclasses; what they add shows in the next norm's input.
        assert set(reference.strange) == {
            f"blocks.{layer}{part}.hook_out" for layer in range(boot.layers) for part in ("", ".attn")
        }
        places = sum(boot.layers if "{layer}" in point else 1 for point in points)
        assert len(reference.taps) == 2 * (places - boot.layers)
        assert (exact.logits - reference.logits).abs().max() <= 128 * ulp(reference.logits)


def test_scores_and_pattern_have_one_more_key_than_the_stream() -> None:
    from conformance.oracles.gidd import forward

    boot = boot_of({})
    pair, seen = boot.pairs["noise"], {}

    def record(name: str, tensor: Any) -> Any:
        seen[name] = tensor
        return tensor

    forward(boot.params, boot.config, pair.inputs, record)
    pattern, mask = seen["blocks.1.attn.hook_pattern"], seen["blocks.1.attn.hook_mask"]
    assert pattern.shape == (2, 4, 24, 1 + 24)
    assert mask.shape == (2, 1, 24, 24)
    assert pattern[..., 1:].gt(0).equal(pair.relation.expand(2, 4, -1, -1))
    assert pattern.sum(-1).allclose(pattern.new_ones(()))


@pytest.mark.parametrize("n", [12, 24, 17])
def test_the_relations_cell_by_cell(n: int) -> None:
    from conformance.oracles.relations import clean_prefix, right_padded

    for query in range(n):
        for key in range(n):
            noisy = [place >= n // 3 for place in (query, key)]
            assert bool(clean_prefix(query, key, n, 1)) == (noisy[0] >= noisy[1])
            assert bool(right_padded(query, key, n, 1)) == (key < n - n // 8)
