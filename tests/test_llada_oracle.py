"""LLaDA's equations: equal to the miniature in every layout, under every variant of its config, in fp32 and fp64."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.llada import SPEC

FIXTURE = checkpoint.fixture_folder("llada")
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "grouped heads": {"n_kv_heads": 2},
    "one head of keys": {"n_kv_heads": 1},
    "wide heads": {"n_heads": 2, "n_kv_heads": 2},
    "four layers": {"n_layers": 4},
    "odd length": {"max_sequence_length": 17},
    "another base": {"rope_theta": 100.0},
    "a large epsilon": {"rms_norm_eps": 0.1},
    "first code generation": {"stand_in_revision": "A"},
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
    from conformance.oracles.llada import forward

    boot = boot_of(VARIANTS[name])
    inputs = boot.pairs[layout].draw(2, 7)
    exact = taps.record_oracle(forward, boot.params, boot.config, inputs, torch.float64)
    for dtype in (torch.float32, torch.float64):
        model = boot.construct().to(dtype)
        call = partial(model, **inputs)
        reference = taps.record_modules(lambda call=call: call().logits, model, SPEC.points, boot.layers)
        compared = 0
        for tap in reference.taps:
            got = exact.joined(tap)
            # By head in the equations, side by side in the module.
            want = reference.joined(tap).double().reshape(got.shape)
            assert (got - want).abs().max() <= 128 * ulp(want), tap
            compared += 1
        # A block answers with a tuple; what it adds to the stream is in the next one's input, and in the last norm's.
        assert set(reference.strange) == {f"blocks.{layer}.hook_out" for layer in range(boot.layers)}
        assert compared + boot.layers == 2 * sum(boot.layers if "{layer}" in point else 1 for point in SPEC.points)
        assert (exact.logits - reference.logits).abs().max() <= 128 * ulp(reference.logits)


@pytest.mark.parametrize("kinds", ["bool", "bool and keys", "lowest and keys", "keys of nobody"])
def test_masks_in_other_words_are_those_of_the_miniature(kinds: str) -> None:
    import torch

    from conformance.oracles.llada import HIDDEN, forward

    boot = boot_of({})
    ids, n = boot.pairs["plain"].inputs["input_ids"], boot.sizes["n"]
    allowed = torch.arange(n)[:, None] // 4 >= torch.arange(n)[None] // 4
    keys = (torch.arange(n) % 5 > 0).long().expand(2, -1)
    inputs: dict[str, Any] = {"input_ids": ids}
    if "bool" in kinds:
        inputs["attention_bias"] = allowed[None, None]
    if "lowest" in kinds:
        inputs["attention_bias"] = torch.zeros(1, 1, n, n).masked_fill(~allowed, HIDDEN)
    if "keys" in kinds:
        inputs["attention_mask"] = keys * ("nobody" not in kinds)
    with torch.no_grad():
        want = boot.reference(**inputs).logits
    assert (forward(boot.params, boot.config, inputs, lambda _, x: x) - want).abs().max() < 1e-5
    assert want.isfinite().all()
