"""The reference adapter: what no requirement of the contract says of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from declaring import HALVES, RUN, ids

from conformance.adapters.bd3lm_reference import SPEC

HALF = 21


@pytest.fixture(scope="module")
def boot() -> Any:
    from conformance import checkpoint
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC), trusted=True)


@pytest.fixture
def bridge(boot: Any) -> Any:
    return boot.boot_again()


def two_halves(rows: int = 2) -> torch.Tensor:
    return ids(2 * HALF, rows)


def test_it_conforms_with_an_empty_ledger(run: Callable[..., Any]) -> None:
    outcome = run("--adapter", "bd3lm-reference", "-n", "0")
    (adapter,) = outcome.report["verdicts"]["adapters"]
    verdicts = {result["verdict"] for result in adapter["results"]}
    assert verdicts == {"PASS", "REFUSED"}
    assert not SPEC.ledger.exists()
    hooks = next(line for line in outcome.text.splitlines() if "in train" in line)
    assert "0 wrong, 0 dead" in hooks
    assert "0 unknown" in hooks
    # Hooks behind a flag that is off refuse to be attached.
    assert "4 refused" in hooks
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert hooks in readme


def test_transformer_lens_knows_nothing_of_it(boot: Any) -> None:
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.supported_architectures.bd3lm import BD3LMArchitectureAdapter

    before = dict(SUPPORTED_ARCHITECTURES)
    bridge = boot.boot_again()
    assert type(bridge.adapter).__name__ == "BD3LMReferenceAdapter"
    assert before == SUPPORTED_ARCHITECTURES
    assert SUPPORTED_ARCHITECTURES["BD3LM"] is BD3LMArchitectureAdapter
    assert not any("conformance" in owner.__module__ for owner in SUPPORTED_ARCHITECTURES.values())


def test_it_is_booted_by_the_name_of_its_spec(miniature: Path) -> None:
    import conformance

    bridge = conformance.boot(miniature, adapter="bd3lm-reference", trust_remote_code=True)
    assert type(bridge).__name__ == "DiffusionBridge"
    # What the spec says that the model needs here.
    assert bridge.original_model.config.attn_backend == "sdpa"
    assert bridge.tokenizer.convert_tokens_to_ids(bridge.tokenizer.mask_token) == bridge.cfg.mask_token_id == 66


def test_without_a_folder_it_is_the_miniature(boot: Any) -> None:
    import conformance

    bridge = conformance.boot(adapter="bd3lm-reference")
    assert bridge(ids(), **RUN).equal(boot.bridge(ids(), **RUN))
    for adapter in (None, "conformance.reference.adapter:BD3LMReferenceAdapter"):
        with pytest.raises(
            ValueError, match=r"folder: got None, want a checkpoint; adapter .* has no bundled miniature"
        ):
            conformance.boot(adapter=adapter)


def test_names_that_boot_knows_and_does_not_know(miniature: Path) -> None:
    import conformance

    with pytest.raises(ValueError, match=r"unknown adapter 'bd3lm-referenc'; did you mean bd3lm-reference\?"):
        conformance.boot(miniature, adapter="bd3lm-referenc", trust_remote_code=True)
    shipped = conformance.boot(miniature, adapter="bd3lm", trust_remote_code=True)
    assert type(shipped.adapter).__module__.startswith("transformer_lens.")


def test_weights_have_the_shapes_of_transformer_lens(bridge: Any) -> None:
    shapes = {name: list(getattr(bridge, name).shape) for name in ("W_Q", "W_K", "W_V", "W_O", "W_E", "W_U", "W_in")}
    assert shapes == {
        **{name: [2, 4, 24, 6] for name in ("W_Q", "W_K", "W_V")},
        "W_O": [2, 4, 6, 24],
        "W_E": [67, 24],
        "W_U": [24, 67],
        "W_in": [2, 24, 96],
    }
    biases = {name: list(getattr(bridge, name).shape) for name in ("b_Q", "b_K", "b_V", "b_O", "b_U", "b_in", "b_out")}
    assert biases == {
        **{name: [2, 4, 6] for name in ("b_Q", "b_K", "b_V")},
        "b_O": [2, 24],
        "b_U": [67],
        "b_in": [2, 96],
        "b_out": [2, 24],
    }
    assert not any(getattr(bridge, name).any() for name in ("b_Q", "b_K", "b_V", "b_O"))


def test_weights_are_what_the_heads_compute_with(bridge: Any) -> None:
    _, cache = bridge.run_with_cache(ids(), **RUN)
    block = bridge.blocks[1].attn
    x, z = cache["blocks.1.attn.hook_in"], cache["blocks.1.attn.hook_z"]
    for name in "QKV":
        want = torch.einsum("bpm,hmd->bphd", x, getattr(block, f"W_{name}"))
        torch.testing.assert_close(cache[f"blocks.1.attn.hook_{name.lower()}"], want)
    torch.testing.assert_close(cache["blocks.1.attn.hook_out"], torch.einsum("bphd,hdm->bpm", z, block.W_O))
    # Views of the parameters: an edit of a head is an edit of the model.
    before = bridge(ids(), **RUN)
    with torch.no_grad():
        block.W_V[2] = 0
    assert not bridge(ids(), **RUN).equal(before)
    assert not bridge.original_model.backbone.blocks[1].attn_qkv.weight[48 + 12 : 48 + 18].any()


def test_results_of_heads_behind_their_flag(bridge: Any) -> None:
    name = "blocks.0.attn.hook_result"
    plain = bridge(ids(), **RUN)
    with pytest.raises(ValueError, match="use_attn_result"):
        bridge.run_with_hooks(ids(), fwd_hooks=[(name, lambda tensor, hook: None)], **RUN)
    bridge.set_use_attn_result(True)
    logits, cache = bridge.run_with_cache(ids(), **RUN)
    torch.testing.assert_close(logits, plain)
    assert list(cache[name].shape) == [2, 9, 4, 24]
    torch.testing.assert_close(cache[name].sum(2), cache["blocks.0.attn.hook_out"])
    ablated = bridge.run_with_hooks(ids(), fwd_hooks=[(name, lambda tensor, hook: 0 * tensor)], **RUN)
    # No head writes: the stream goes on past attention.
    silent = [("blocks.0.hook_attn_out", lambda tensor, hook: 0 * tensor)]
    torch.testing.assert_close(ablated, bridge.run_with_hooks(ids(), fwd_hooks=silent, **RUN))


def test_the_entry_of_the_mlp_behind_its_flag(bridge: Any) -> None:
    plain = bridge(ids(), **RUN)
    bridge.set_use_hook_mlp_in(True)
    logits, cache = bridge.run_with_cache(ids(), **RUN)
    assert logits.equal(plain)
    assert cache["blocks.1.hook_mlp_in"].equal(cache["blocks.1.hook_resid_mid"])
    edit = [("blocks.1.hook_mlp_in", lambda tensor, hook: tensor + 1)]
    _, cache = bridge.run_with_cache(ids(), **RUN), None
    with bridge.hooks(fwd_hooks=edit):
        _, edited = bridge.run_with_cache(
            ids(), names_filter=["blocks.1.hook_resid_mid", "blocks.1.ln2.hook_in"], **RUN
        )
    # Only what the MLP reads is edited, not the stream that goes past it.
    torch.testing.assert_close(edited["blocks.1.ln2.hook_in"], edited["blocks.1.hook_resid_mid"] + 1)


@pytest.mark.parametrize(
    "hook", ["attn.hook_attn_scores", "attn.hook_pattern", "ln1.hook_scale", "ln2.hook_normalized"]
)
@pytest.mark.parametrize("grad", [False, True])
def test_who_only_looks_changes_no_bit(bridge: Any, hook: str, grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        plain = bridge(two_halves(), **HALVES)
        seen: list[Any] = []
        looked = bridge.run_with_hooks(
            two_halves(), fwd_hooks=[(f"blocks.1.{hook}", lambda tensor, hook: seen.append(tensor))], **HALVES
        )
        assert looked.equal(plain)
        same = bridge.run_with_hooks(
            two_halves(), fwd_hooks=[(f"blocks.1.{hook}", lambda tensor, hook: tensor)], **HALVES
        )
        assert same.equal(plain)
        if grad:
            (gradient,) = torch.autograd.grad(looked.sum(), seen)
            assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    "hook", ["attn.hook_attn_scores", "attn.hook_pattern", "ln1.hook_scale", "ln2.hook_normalized"]
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_edits_by_return_and_in_place_do_the_same(bridge: Any, hook: str, mode: Callable[[], Any]) -> None:
    def returned(tensor: torch.Tensor, hook: Any) -> torch.Tensor:
        return tensor * 1.5

    def in_place(tensor: torch.Tensor, hook: Any) -> torch.Tensor:
        tensor *= 1.5
        return tensor

    with mode():
        plain = bridge(ids(), **RUN)
        logits = [
            bridge.run_with_hooks(ids(), fwd_hooks=[(f"blocks.0.{hook}", edit)], **RUN) for edit in (returned, in_place)
        ]
    assert logits[0].equal(logits[1])
    assert (logits[0] - plain).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["conditioned on noise", "without adaLN"])
@pytest.mark.parametrize("layout", [(two_halves(), HALVES), (ids(8), RUN)], ids=["train", "sample"])
def test_no_edit_in_place_reaches_what_stands_beside_its_hook(boot: Any, variant: str, layout: Any) -> None:
    """Not the skip connection, not another layer's modulation, not the caller's tensors; gradients are the same too."""
    tokens, arguments = layout
    bridge = boot.variants[variant].boot_again()
    bridge.set_use_attn_result(True)
    bridge.set_use_hook_mlp_in(True)
    weights = list(bridge.parameters())

    def returned(tensor: torch.Tensor, hook: Any) -> torch.Tensor:
        return tensor * 1.25 if tensor.is_floating_point() else (tensor + 1) % 60

    def in_place(tensor: torch.Tensor, hook: Any) -> torch.Tensor:
        return tensor.mul_(1.25) if tensor.is_floating_point() else tensor.add_(1).remainder_(60)

    for name in {point.name for point in bridge.hook_dict.values()}:
        if bridge._gated_hook_reason(name):
            continue
        outcomes = []
        for edit in (returned, in_place):
            given, levels = tokens.clone(), arguments["timesteps"].clone()
            hooks = [(name, edit)]
            logits = bridge.run_with_hooks(given, fwd_hooks=hooks, **{**arguments, "timesteps": levels})
            outcomes.append((logits, torch.autograd.grad(logits.square().sum(), weights, materialize_grads=True)))
            assert given.equal(tokens), name
            assert levels.equal(arguments["timesteps"]), name
        (want, gradients), (got, others) = outcomes
        assert got.equal(want), name
        for one, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4, msg=name)


def test_an_edit_in_place_leaves_the_stream_that_a_run_goes_on_from(bridge: Any) -> None:
    name = "blocks.1.hook_resid_pre"
    _, cache = bridge.run_with_cache(ids(), names_filter=name, **RUN)
    residual = cache[name].clone()
    hooks = [(name, lambda tensor, hook: tensor.mul_(2))]
    bridge.run_with_hooks(cache[name], fwd_hooks=hooks, start_at_layer=1, **RUN)
    assert cache[name].equal(residual)


def test_gradients_after_a_run_in_inference_mode(bridge: Any) -> None:
    """Rotary tables that were made there, for this length, cannot be part of a graph."""
    with torch.inference_mode():
        want = bridge(ids(), **RUN)
    got = bridge(ids(), **RUN)
    got.sum().backward()
    assert got.equal(want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_casting_does_not_round_the_frequencies(boot: Any, bridge: Any, dtype: torch.dtype) -> None:
    """In bfloat16 the 300th position would be the 300th or the 302nd."""
    frequencies = bridge.original_model.backbone.rotary_emb.inv_freq.clone()
    bridge.to(dtype)
    assert bridge(ids(), **RUN).equal(boot.boot_again(dtype=dtype)(ids(), **RUN))
    bridge.to(torch.float32)
    assert bridge.original_model.backbone.rotary_emb.inv_freq.equal(frequencies)


def test_a_mask_that_is_edited_is_the_one_that_is_used(bridge: Any) -> None:
    """The second block of the sampling view is hidden from the third, for one head or for all."""
    _, cache = bridge.run_with_cache(ids(), names_filter=lambda name: "pattern" in name, **RUN)
    assert cache["blocks.0.attn.hook_pattern"][:, :, 6:, 3:6].min() > 0

    def hidden(mask: torch.Tensor, hook: Any) -> torch.Tensor:
        mask[..., 6:, 3:6] = -torch.inf
        return mask

    def hidden_from_one_head(mask: torch.Tensor, hook: Any) -> torch.Tensor:
        per_head = mask.repeat(1, 4, 1, 1)
        per_head[:, 2, 6:, 3:6] = -torch.inf
        return per_head

    for edit, heads in ((hidden, slice(None)), (hidden_from_one_head, slice(2, 3))):
        with bridge.hooks(fwd_hooks=[("blocks.0.attn.hook_mask", edit)]):
            _, cache = bridge.run_with_cache(ids(), names_filter=lambda name: "pattern" in name, **RUN)
            # Fused, no one looks at the pattern; the edit is the same.
            fused = bridge(ids(), **RUN)
        pattern = cache["blocks.0.attn.hook_pattern"]
        assert not pattern[:, heads, 6:, 3:6].any()
        assert pattern[:, :2, 6:, 3:6].any() == (heads != slice(None))
        # Only the layer that was asked for.
        assert cache["blocks.1.attn.hook_pattern"][:, :, 6:, 3:6].min() > 0
        with bridge.hooks(fwd_hooks=[("blocks.0.attn.hook_mask", edit)]):
            scaled = bridge.run_with_hooks(
                ids(), fwd_hooks=[("blocks.0.attn.hook_pattern", lambda tensor, hook: tensor * 1)], **RUN
            )
        torch.testing.assert_close(scaled, fused)


def test_a_sweep_of_block_sizes_reloads_nothing_and_leaves_no_trace(bridge: Any) -> None:
    weights = {name: parameter.clone() for name, parameter in bridge.original_model.named_parameters()}
    addresses = {name: parameter.data_ptr() for name, parameter in bridge.original_model.named_parameters()}
    first, mask = bridge(two_halves(), **HALVES), bridge.original_model.backbone.mask.clone()
    swept = []
    for size in (1, 3, 7, 21):
        with bridge.with_block_size(size):
            assert bridge.block_size == bridge.cfg.block_size == bridge.original_model.config.block_size == size
            swept.append(bridge(two_halves(), **HALVES))
    assert bridge.block_size == 3
    assert bridge(two_halves(), **HALVES).equal(first)
    assert bridge.original_model.backbone.mask.equal(mask)
    assert all(one.equal(first) == (size == 3) for one, size in zip(swept, (1, 3, 7, 21), strict=True))
    for name, parameter in bridge.original_model.named_parameters():
        assert parameter.equal(weights[name])
        assert parameter.data_ptr() == addresses[name]


@pytest.mark.parametrize("size", [0, -3, 2, 22, 42, 3.0, "3", True, None])
def test_sizes_that_do_not_fit(bridge: Any, size: Any) -> None:
    before = bridge.original_model.backbone.mask.clone()
    with pytest.raises(ValueError, match=r"block_size: got .*, want one that divides n = 21: 1, 3, 7, 21"):
        bridge.block_size = size
    assert bridge.block_size == 3
    assert bridge.original_model.backbone.mask.equal(before)


def test_a_copy_has_a_dial_of_its_own(bridge: Any) -> None:
    twin = copy.deepcopy(bridge)
    before = bridge(two_halves(), **HALVES)
    twin.block_size = 7
    assert bridge.block_size == 3
    assert bridge(two_halves(), **HALVES).equal(before)
    assert not twin(two_halves(), **HALVES).equal(before)


def test_a_model_without_blocks_has_no_dial(boot: Any) -> None:
    bridge = boot.variants["bidirectional"].bridge
    with pytest.raises(ValueError, match=r"block_size: this model attends without blocks \(cross_attn=False\)"):
        bridge.block_size = 3


def test_lengths_that_no_view_has(bridge: Any) -> None:
    from conformance.reference.kv import cache_for

    told = r"input_ids: got a stream of length {}, want {}"
    with pytest.raises(ValueError, match=told.format(41, "42, noisy and clean half")):
        bridge(ids(41), **HALVES)
    with pytest.raises(ValueError, match=told.format(22, "at most 21")):
        bridge(ids(22), **RUN)
    with (
        cache_for(bridge.original_model, 2),
        pytest.raises(ValueError, match=told.format(4, "3, one block, while a cache is open")),
    ):
        bridge(ids(4), **RUN)


def test_what_an_open_cache_does_not_take(bridge: Any) -> None:
    from conformance.reference.kv import cache_for

    block: dict[str, Any] = {"timesteps": torch.zeros(2), "sample_mode": True, "store_kv": True}
    with torch.no_grad(), cache_for(bridge.original_model, 2):
        with pytest.raises(ValueError, match="input_ids: got 1 rows, want 2, for which the cache was opened"):
            bridge(ids(3, 1), **{**block, "timesteps": torch.zeros(1)})
        with pytest.raises(ValueError, match="sample_mode: got False, want True while a cache is open"):
            bridge(ids(3), timesteps=torch.zeros(2))
        for _ in range(6):
            bridge(ids(3), **block)
        with (
            bridge.with_block_size(7),
            pytest.raises(ValueError, match="the cache holds 18 tokens of 21, and has no room for 7 more"),
        ):
            bridge(ids(7), **block)


def test_a_model_that_has_a_bridge_gets_no_other(boot: Any) -> None:
    model = boot.construct()
    bridge = boot.boot_again(hf_model=model)
    want = bridge(ids(), **RUN)
    with pytest.raises(ValueError, match="hf_model: another bridge is around this model already"):
        boot.boot_again(hf_model=model)
    assert bridge(ids(), **RUN).equal(want)


def test_a_model_with_two_masks_is_refused(boot: Any) -> None:
    """PyTorch does not say what a mask and `is_causal` mean together; on CPU the model's own kernel takes both."""
    with pytest.raises(ValueError, match="causal: got True with cross_attn=True, want one of them"):
        boot.resized({"causal": True}).boot_again()


@pytest.mark.parametrize("hook", ["attn.hook_pattern", "ln1.hook_scale"])
def test_forward_derivatives_go_through_what_is_observed(bridge: Any, hook: str) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def logits(added: torch.Tensor, looks: tuple[Any, ...]) -> Any:
        hooks = [("blocks.0.hook_resid_mid", lambda tensor, hook: tensor + added), *looks]
        return bridge.run_with_hooks(ids(), fwd_hooks=hooks, **RUN)

    start, looking = torch.zeros(2, 9, 24), ((f"blocks.1.{hook}", lambda tensor, hook: tensor),)
    # The fused kernel has no forward derivative.
    with sdpa_kernel(SDPBackend.MATH):
        want, got = (
            torch.func.jvp(lambda added, looks=looks: logits(added, looks), (start,), (torch.ones_like(start),))[1]
            for looks in ((), looking)
        )
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_a_text_begins_without_a_prompt(bridge: Any) -> None:
    begun = bridge.denoise(length=6, seed=(3, 4))
    assert begun.shape == (2, 6)
    assert begun.equal(bridge.adapter.sampler(bridge, length=6, seed=(3, 4)))


def test_noise_levels_may_be_missing_where_they_cannot_matter(boot: Any, bridge: Any) -> None:
    given = bridge(ids(), **RUN)
    assert bridge(ids(), sample_mode=True).equal(given)
    conditioned = boot.variants["conditioned on noise"].bridge
    with pytest.raises(ValueError, match="timesteps: got None, want 2 noise levels, one per row"):
        conditioned(ids(), sample_mode=True)
    assert boot.variants["without adaLN"].bridge(ids(), sample_mode=True).isfinite().all()


def test_one_noise_level_serves_all_rows(boot: Any) -> None:
    bridge = boot.variants["conditioned on noise"].bridge
    one = bridge(ids(), timesteps=torch.tensor([0.5]), sample_mode=True)
    torch.testing.assert_close(one, bridge(ids(), timesteps=torch.tensor([0.5, 0.5]), sample_mode=True))


def test_bfloat16_as_the_model_under_autocast(boot: Any, bridge: Any) -> None:
    """The model's own code runs in bf16 under autocast only; there the bridge is as near to fp32 as it is."""
    pair = boot.pairs["train"]
    exact = pair.reference_logits()
    # Tables that are cached under autocast would stay.
    model = boot.construct()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        want, got = model(**pair.inputs), pair.call(bridge=bridge)
    assert got.dtype is want.dtype
    noise = (want.float() - exact).abs().max()
    assert (got.float() - want.float()).abs().max() < noise < 0.2


def test_states_of_the_stream_are_returned_as_the_model_does(boot: Any, bridge: Any) -> None:
    model, inputs = boot.construct(), boot.pairs["train"].inputs
    with torch.no_grad():
        logits, states = model(**inputs, output_hidden_states=True)
        got, streams = bridge.original_model(**inputs, output_hidden_states=True)
    torch.testing.assert_close(got, logits)
    assert len(streams) == len(states) == 3
    for one, other in zip(streams, states, strict=True):
        torch.testing.assert_close(one, other)


def test_keys_and_values_are_kept_as_the_model_keeps_them(boot: Any, bridge: Any) -> None:
    """More blocks than the context holds: the cache lets go of its first block, on both sides."""
    from conformance.reference.kv import cache_for

    model, text = boot.construct(), ids(27)
    with torch.no_grad(), cache_for(model, 2), cache_for(bridge.original_model, 2):
        for start in range(0, 27, 3):
            block = {"input_ids": text[:, start : start + 3], "timesteps": torch.zeros(2), "sample_mode": True}
            for store in (False, True):
                want = model(**block, store_kv=store)
                tokens = block["input_ids"]
                got = bridge(tokens, timesteps=block["timesteps"], sample_mode=True, store_kv=store)
                torch.testing.assert_close(got, want, atol=2e-5, rtol=0)
        for kept, other in zip(bridge.original_model.backbone.blocks, model.backbone.blocks, strict=True):
            assert kept.cache_idx == other.cache_idx == 18
            torch.testing.assert_close(kept.kv_cache[:, :18], other.kv_cache[:, :18], atol=2e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="not measured: there is no CUDA device")
def test_keys_and_values_on_cuda(bridge: Any) -> None:
    from conformance.reference.kv import cache_for

    want = bridge(ids(3), **RUN)
    bridge.to("cuda")
    with torch.no_grad(), cache_for(bridge.original_model, 2):
        got = bridge(ids(3).cuda(), timesteps=RUN["timesteps"].cuda(), sample_mode=True, store_kv=True)
    torch.testing.assert_close(got.cpu(), want, atol=1e-4, rtol=0)
