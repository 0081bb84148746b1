"""LLaDA2-MoE's equations: equal to the miniature in every layout and under every variant, in fp32 and fp64."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.llada2_moe import SPEC

FIXTURE = checkpoint.fixture_folder("llada2_moe")
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "experts everywhere": {"first_k_dense_replace": 0},
    "experts nowhere": {"first_k_dense_replace": 2},
    "four layers": {"num_hidden_layers": 4},
    "no shared experts": {"num_shared_experts": 0},
    "two shared experts": {"num_shared_experts": 2},
    "one group": {"n_group": 1, "topk_group": 1},
    "one of two groups": {"n_group": 2, "topk_group": 1},
    "four experts a token": {"num_experts_per_tok": 4},
    "another scale": {"routed_scaling_factor": 0.7},
    "heads of their own": {"num_key_value_heads": 4},
    "one head of keys": {"num_key_value_heads": 1},
    "wide heads": {"head_dim": 16},
    "all channels rotated": {"partial_rotary_factor": 1.0},
    "another base": {"rope_theta": 100},
    "without query and key norms": {"use_qk_norm": False},
    "with biases": {"use_bias": True, "use_qkv_bias": True},
    "a large epsilon": {"rms_norm_eps": 0.1},
    "odd length": {"max_position_embeddings": 17},
}
FAR = 3e-5
"""How far apart scores between which a router decides lie at least; fp32 was measured to move them by 4e-7."""


def boot_of(fields: dict[str, Any]) -> Any:
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True)


def points_of(boot: Any) -> dict[str, str]:
    """The points that this model has."""
    from conformance.spec import places

    paths = {name for name, _ in boot.reference.named_modules()}
    return {
        point: path
        for point, path in SPEC.points.items()
        if not paths.isdisjoint(places(path.rstrip("?"), boot.layers))
    }


@pytest.mark.parametrize("layout", [layout.name for layout in SPEC.layouts])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_equations_are_those_of_the_miniature(name: str, layout: str) -> None:
    import torch

    from conformance import taps
    from conformance.compare import ulp
    from conformance.oracles.llada2_moe import forward

    boot = boot_of(VARIANTS[name])
    inputs, layers = boot.pairs[layout].draw(2, 7), boot.layers
    exact = taps.record_oracle(forward, boot.params, boot.config, inputs, torch.float64)
    for dtype in (torch.float32, torch.float64):
        model = boot.construct().to(dtype)
        shown: dict[str, Any] = {}

        def keep(module: Any, args: Any, output: Any, name: str, shown: dict[str, Any] = shown) -> None:
            shown[name] = output

        tuples = [*(f"layers.{layer}" for layer in range(layers))]
        tuples += [f"layers.{layer}.{part}" for layer in range(layers) for part in ("attention", "mlp")]
        for path in tuples:
            model.model.get_submodule(path).register_forward_hook(partial(keep, name=path))
        reference = taps.record_modules(lambda m=model: m(**inputs).logits, model, points_of(boot), layers)
        for tap in reference.taps:
            got = exact.joined(tap)
            # By head in the equations, side by side in the module.
            want = reference.joined(tap).double().reshape(got.shape)
            assert (got - want).abs().max() <= 128 * ulp(want), tap
        # What answers with a tuple shows its tensor first.
        for layer in range(layers):
            there, here = f"layers.{layer}", f"blocks.{layer}"
            sparse = isinstance(shown[f"{there}.mlp"], tuple)
            assert sparse is (layer >= boot.config["first_k_dense_replace"])
            branch, (logits, chosen) = shown[f"{there}.mlp"] if sparse else (shown[f"{there}.mlp"], (None, None))
            first = {
                f"{here}.hook_out": shown[there][0],
                f"{here}.attn.hook_out": shown[f"{there}.attention"][0],
                f"{here}.mlp.hook_out": branch,
                **({f"{here}.mlp.gate.hook_out": logits} if sparse else {}),
            }
            for tap, want in first.items():
                assert (exact.joined(tap) - want.double()).abs().max() <= 128 * ulp(want), tap
            if sparse:
                weights = exact.joined(f"{here}.mlp.hook_expert_weights")
                assert weights.ne(0).sum(dim=-1).eq(boot.config["num_experts_per_tok"]).all()
                assert weights.gather(-1, chosen).ne(0).all()
        assert (exact.logits - reference.logits).abs().max() <= 128 * ulp(reference.logits)


@pytest.mark.parametrize("layout", [layout.name for layout in SPEC.layouts])
def test_no_token_of_the_seeded_inputs_lies_near_a_tie(layout: str) -> None:
    """What is nearest to being chosen, and is not, lies far from it: fp32 chooses as fp64 does."""
    import torch

    from conformance import taps
    from conformance.oracles.llada2_moe import forward

    nearest, moved, used = [], [], set()
    for name in ("as shipped", "experts everywhere", "one of two groups"):
        boot = boot_of(VARIANTS[name])
        config = boot.config
        for inputs in (boot.pairs[layout].inputs, boot.pairs[layout].draw(2, 2)):
            exact, rounded = (
                taps.record_oracle(forward, boot.params_in(dtype), config, inputs, dtype)
                for dtype in (torch.float64, torch.float32)
            )
            for layer in range(config["first_k_dense_replace"], boot.layers):
                tap = f"blocks.{layer}.mlp.hook_router_scores"
                bias = boot.params[f"model.layers.{layer}.mlp.gate.expert_bias"]
                worth = exact.joined(tap).sigmoid() + bias
                grouped = worth.unflatten(-1, (config["n_group"], -1))
                pairs = grouped.topk(2, dim=-1).values.sum(dim=-1)
                groups, experts = config["topk_group"], config["num_experts_per_tok"]
                ranked = pairs.sort(dim=-1, descending=True).values
                nearest.append(ranked[..., groups - 1] - ranked[..., groups])
                open_ = grouped.masked_fill((pairs < ranked[..., groups - 1, None])[..., None], -9.0).flatten(-2)
                ranked = open_.sort(dim=-1, descending=True).values
                nearest.append(ranked[..., experts - 1] - ranked[..., experts])
                moved.append((rounded.joined(tap).sigmoid() - exact.joined(tap).sigmoid()).abs().max())
                weights = [each.joined(f"blocks.{layer}.mlp.hook_expert_weights").ne(0) for each in (exact, rounded)]
                assert weights[0].equal(weights[1])
                used |= set(weights[0].flatten(0, 1).any(dim=0).nonzero().flatten().tolist())
    assert min(float(gap.min()) for gap in nearest) > FAR > 50 * max(map(float, moved))
    assert used == set(range(8))


def test_gradients_are_those_of_the_miniature_in_training_mode() -> None:
    """In evaluation the model runs its experts without gradients; what it computes in training is the same."""
    import torch

    from conformance.compare import ulp
    from conformance.oracles.llada2_moe import forward

    boot = boot_of({})
    inputs = boot.pairs["blocks"].inputs
    model = boot.construct().train()
    model(**inputs).logits.square().mean().backward()
    leaves = {name: boot.params[name].double().requires_grad_() for name, _ in model.named_parameters()}
    params = {**{name: tensor.double() for name, tensor in boot.params.items()}, **leaves}
    with torch.enable_grad():
        forward(params, boot.config, inputs, lambda _, tensor: tensor).square().mean().backward()
    for name, parameter in model.named_parameters():
        want = parameter.grad
        assert (leaves[name].grad - want).abs().max() <= 256 * ulp(want), name
        assert want.any(), name


def test_masks_and_positions_in_other_words_are_those_of_the_miniature() -> None:
    import torch

    from conformance.oracles.llada2_moe import forward

    boot = boot_of({})
    ids, n = boot.pairs["full"].inputs["input_ids"], boot.sizes["n"]
    allowed = (torch.arange(n)[:, None] // 5 >= torch.arange(n)[None] // 5).expand(2, 1, -1, -1)
    zeros = torch.zeros(2, 1, n, n)
    cases = {
        "bool": {"attention_mask": allowed},
        "0 and 1, which are added": {"attention_mask": allowed.float()},
        "another start": {"attention_mask": zeros, "position_ids": torch.arange(7, 7 + n)[None]},
        "by row": {"attention_mask": zeros, "position_ids": torch.arange(2 * n).view(2, n).flip(1)},
    }
    model = boot.construct()
    model.config._attn_implementation = "sdpa"
    for case, arguments in cases.items():
        with torch.no_grad():
            want = model(ids, **arguments).logits
        got = forward(boot.params, boot.config, {"input_ids": ids, **arguments}, lambda _, x: x)
        assert (got - want).abs().max() < 1e-5, case
    with torch.no_grad():
        want = model(ids, attention_mask=zeros).logits
    assert (forward(boot.params, boot.config, {"input_ids": ids}, lambda _, x: x) - want).abs().max() < 1e-5


def test_without_a_mask_the_bridge_shows_everyone_to_everyone_and_the_model_nothing() -> None:
    import torch

    from conformance.adapters.llada2_moe_repaired import SPEC as REPAIRED
    from conformance.subject import Boot

    boot = Boot(REPAIRED, checkpoint.materialise(FIXTURE, REPAIRED), trusted=True)
    pair = boot.pairs["full"]
    ids = pair.inputs["input_ids"]
    for given in ({}, {"attention_mask": torch.ones_like(ids)}, {"attention_mask": None}):
        got = pair.call({"input_ids": ids, **given})
        assert (got - pair.reference.logits).abs().max() <= pair.allowed("logits")
    with pytest.raises(AttributeError):
        boot.reference(ids)
