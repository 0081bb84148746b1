"""The oracles: equal to the miniature in every variant of its config, and closed forms of the relations."""

from __future__ import annotations

from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.bd3lm import SPEC
from conformance.oracles.relations import block_causal, block_diffusion_training

FIXTURE = checkpoint.fixture_folder("bd3lm")
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "autoregressive limit": {"block_size": 1},
    "full diffusion": {"block_size": 21},
    "conditioned on the noise level": {"time_conditioning": True},
    "other heads": {"n_heads": 2},
    "odd length": {"model_length": 15, "block_size": 5},
    "four layers": {"n_blocks": 4},
    "bidirectional": {"cross_attn": False},
    "causal": {"cross_attn": False, "causal": True},
    "without adaLN": {"adaln": False},
    "autoregressive baseline": {"cross_attn": False, "causal": True, "adaln": False},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_equations_are_those_of_the_miniature(name: str) -> None:
    import torch

    from conformance import taps
    from conformance.compare import ulp
    from conformance.oracles.bd3lm import forward
    from conformance.subject import Boot

    fields = {"attn_backend": "sdpa", **VARIANTS[name]}
    boot = Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True)
    n, vocabulary = boot.sizes["n"], boot.sizes["d_vocab"]
    stream = 2 * n if boot.config["cross_attn"] else n
    ids = torch.randint(vocabulary, (2, stream), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "timesteps": torch.tensor([0.2, 3.0])}
    exact = taps.record_oracle(forward, boot.params, boot.config, inputs, torch.float64)

    def call() -> Any:
        with torch.no_grad():
            return boot.reference(**inputs)

    points = {
        point: path
        for point, path in SPEC.points.items()
        if boot.config["adaln"] or not ("adaln" in point or "sigma" in point)
    }
    reference = taps.record_modules(call, boot.reference, points, boot.layers)
    compared = 0
    for tap in reference.taps:
        want, got = reference.joined(tap).double(), exact.joined(tap)
        assert (got - want).abs().max() <= 128 * ulp(want), tap
        compared += 1
    assert compared == 2 * sum(boot.layers if "{layer}" in point else 1 for point in points)
    assert (exact.logits - reference.logits).abs().max() <= 128 * ulp(reference.logits)


@pytest.mark.parametrize(("n", "block"), [(16, 4), (16, 1), (16, 16), (21, 3), (10, 4), (7, 5)])
def test_the_training_relation_cell_by_cell(n: int, block: int) -> None:
    allowed = {(q, k) for q in range(2 * n) for k in range(2 * n) if block_diffusion_training(q, k, n, block)}
    for q in range(2 * n):
        for k in range(2 * n):
            own, past = (q % n) // block, (k % n) // block
            if q < n and k < n:
                want = own == past
            elif q < n:
                want = past < own
            else:
                want = k >= n and past <= own
            assert ((q, k) in allowed) == want
    if n % block == 0:
        assert len(allowed) == n * block + n**2


def test_the_sampling_relation_is_the_clean_corner_of_the_training_relation() -> None:
    n, block = 21, 3
    for q in range(n):
        for k in range(n):
            corner = block_diffusion_training(n + q, n + k, n, block)
            assert bool(block_causal(q, k, n, block)) == bool(corner)
