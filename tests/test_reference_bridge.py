"""The bridge of the reference adapter: what it mends in TransformerBridge, each with the case that shows it."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

RUN: dict[str, Any] = {"timesteps": torch.full((2,), 0.5), "sample_mode": True}
HALVES: dict[str, Any] = {"timesteps": torch.full((2,), 0.5)}


def ids(length: int = 9, rows: int = 2) -> torch.Tensor:
    return torch.randint(0, 60, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def booted(miniature: Path) -> Callable[..., Any]:
    """`booted(supports_attention_mask=True)`: a bridge around the shipped adapter, which declares what is asked for.

    Its model projects noisy and clean half one after the other, so that hooks fire twice, and takes any keyword.
    """
    from transformer_lens.model_bridge.supported_architectures.bd3lm import BD3LMArchitectureAdapter

    from conformance.booting import boot
    from conformance.reference.bridge import DiffusionBridge

    class Adapter(BD3LMArchitectureAdapter):
        bridge_class = DiffusionBridge
        supports_causal_loss = False
        supports_attention_mask = False

        def setup_hook_compatibility(self, bridge: Any) -> None:
            for name, point in bridge.hook_dict.items():
                if name.startswith("sigma_map") or "adaln_modulation" in name:
                    point.positionless = True

    def booted(**declared: Any) -> Any:
        adapter = type("Declaring", (Adapter,), declared)
        return boot(miniature, adapter, trust_remote_code=True, overrides={"attn_backend": "sdpa"})

    return booted


@pytest.fixture
def bridge(booted: Callable[..., Any]) -> Any:
    return booted()


@pytest.fixture
def reference(miniature: Path) -> Any:
    from conformance.booting import boot

    adapter = "conformance.reference.adapter:BD3LMReferenceAdapter"
    return boot(miniature, adapter, trust_remote_code=True, overrides={"attn_backend": "sdpa"})


def recorded(bridge: Any, name: str, **arguments: Any) -> list[torch.Tensor]:
    """What a hook is shown, firing by firing."""
    shown: list[torch.Tensor] = []
    with bridge.hooks(fwd_hooks=[(name, lambda tensor, hook: shown.append(tensor.clone()))]):
        bridge(**arguments)
    return shown


TWICE = "blocks.0.attn.qkv.hook_out"


def test_all_firings_of_a_hook_are_in_its_entry(bridge) -> None:
    parts = recorded(bridge, TWICE, input=ids(42), **HALVES)
    _, cache = bridge.run_with_cache(ids(42), **HALVES)
    assert len(parts) == 2
    assert cache[TWICE].equal(torch.cat(parts, dim=1))


@pytest.mark.parametrize("positions", [-1, 30, (15, 27), [0, 41], (None, None, 5)], ids=str)
def test_positions_are_those_of_the_stream_also_where_a_hook_sees_parts_of_it(bridge, positions) -> None:
    _, whole = bridge.run_with_cache(ids(42), **HALVES)
    _, cache = bridge.run_with_cache(ids(42), pos_slice=positions, **HALVES)
    kept = slice(*positions) if isinstance(positions, tuple) else torch.tensor(positions).reshape(-1)
    for name in (TWICE, "blocks.0.hook_resid_pre", "embed.hook_in"):
        assert cache[name].equal(whole[name][:, kept]), name


def test_what_has_no_positions_is_left_whole(bridge) -> None:
    name = "blocks.0.adaln_modulation.hook_out"
    _, whole = bridge.run_with_cache(ids(), **RUN)
    _, cache = bridge.run_with_cache(ids(), pos_slice=2, **RUN)
    assert cache[name].equal(whole[name])
    kept, hooks, _ = bridge.get_caching_hooks(name, pos_slice=2)
    bridge.run_with_hooks(ids(), hooks, **RUN)
    assert kept[name].equal(whole[name])


@pytest.mark.parametrize("positions", [None, -1], ids=str)
def test_entries_lie_apart_and_are_as_large_as_they_look(bridge, positions) -> None:
    _, cache = bridge.run_with_cache(ids(42), pos_slice=positions, **HALVES)
    kept, hooks, _ = bridge.get_caching_hooks(pos_slice=positions)
    with bridge.hooks(hooks):
        bridge(ids(42), **HALVES)
    for entries in (cache, kept):
        owners: dict[int, str] = {}
        for name, entry in entries.items():
            assert entry.untyped_storage().nbytes() == entry.nbytes, name
            owner = owners.setdefault(entry.data_ptr(), name)
            assert bridge.hook_dict[owner] is bridge.hook_dict[name]


def test_an_edit_in_place_does_not_reach_what_was_cached_before_it(bridge) -> None:
    _, before = bridge.run_with_cache(ids(), **RUN)
    with bridge.hooks(fwd_hooks=[("blocks.1.hook_in", lambda tensor, hook: tensor.add_(1))]):
        _, cache = bridge.run_with_cache(ids(), **RUN)
    assert cache["blocks.0.hook_out"].equal(before["blocks.0.hook_out"])
    assert not cache["blocks.1.hook_in"].equal(before["blocks.1.hook_in"])


def test_a_misspelt_name_is_told_with_the_one_that_was_meant(bridge) -> None:
    names = ["embed.hook_out", "blocks.0.hook_resid_pots"]
    told = r"no hook 'blocks.0.hook_resid_pots'; did you mean blocks.0.hook_resid_post"
    for keep in (bridge.get_caching_hooks, bridge.add_caching_hooks):
        with pytest.raises(KeyError, match=told):
            keep(names)
    with pytest.raises(KeyError, match=told):
        bridge.run_with_cache(ids(), names_filter=names, **RUN)
    with pytest.raises(KeyError, match=r"no hook 'zzz'; see bridge.hook_dict"):
        bridge.run_with_cache(ids(), names_filter="zzz", **RUN)


@pytest.mark.parametrize(
    ("names", "options", "told"),
    [
        (["embed.hook_out", "blocks.0.attn.hook_in"], {}, "blocks.0.attn.hook_in did not fire in this run$"),
        ("ln_final.hook_in", {"stop_at_layer": 1}, "ln_final.hook_in did not fire .* from layer None to layer 1"),
        (["blocks.1.hook_resid_post"], {"stop_at_layer": -1}, "blocks.1.hook_resid_post did not fire"),
        (lambda name: name.endswith("attn.hook_in"), {}, "anything that names_filter matches did not fire"),
        (lambda name: False, {}, "anything that names_filter matches did not fire"),
    ],
)
def test_what_a_filter_asks_for_in_vain_is_told(bridge, names, options, told) -> None:
    with pytest.warns(UserWarning, match=told):
        _, cache = bridge.run_with_cache(ids(), names_filter=names, **options, **RUN)
    assert set(cache) <= {"embed.hook_out", "hook_embed"}


def test_a_run_that_leaves_nothing_out_says_nothing(bridge) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bridge.run_with_cache(ids(), **RUN)
        bridge.run_with_cache(ids(), names_filter=["hook_embed", "embed.hook_out"], **RUN)
        bridge.run_with_hooks(ids(), fwd_hooks=[("hook_embed", lambda tensor, hook: None)], **RUN)


@pytest.mark.parametrize("layer", [3, -3])
def test_a_layer_that_does_not_exist_is_refused(bridge, layer) -> None:
    for run in (bridge, bridge.run_with_cache, bridge.run_with_hooks):
        with pytest.raises(ValueError, match=rf"stop_at_layer: got {layer}, want one of -2 to 2"):
            run(ids(), stop_at_layer=layer, **RUN)


def test_hooks_that_do_not_fire_in_a_run_are_told(bridge) -> None:
    def look(tensor: Any, hook: Any) -> None:
        pass

    with pytest.warns(UserWarning, match=r"run_with_hooks: blocks.1.hook_out did not fire"):
        bridge.run_with_hooks(ids(), [("blocks.0.hook_in", look), ("blocks.1.hook_out", look)], stop_at_layer=1, **RUN)
    bridge.run_with_hooks(ids(), [("blocks.0.hook_in", look)], reset_hooks_end=False, **RUN)
    assert len(bridge.hook_dict["blocks.0.hook_in"].fwd_hooks) == 1
    with pytest.warns(UserWarning, match=r"takes its bwd_hooks down before anything goes backward"):
        bridge.run_with_hooks(ids(), bwd_hooks=[("blocks.0.hook_in", look)], **RUN)


def test_hooks_that_stay_go_on_to_fill_the_cache(bridge) -> None:
    _, cache = bridge.run_with_cache(ids(), names_filter="hook_embed", reset_hooks_end=False, **RUN)
    first = cache["hook_embed"]
    bridge(ids().flip(1), **RUN)
    bridge.reset_hooks()
    assert cache["hook_embed"].equal(first.flip(1))


def test_gradients_of_parts_are_joined_in_the_order_of_the_stream() -> None:
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.utilities.slice import Slice

    from conformance.reference.caching import Recorder

    point, (noisy, clean) = HookPoint(), torch.arange(12.0).reshape(2, 2, 3)
    point.name = "qkv.hook_out"
    recorder = Recorder({point.name: ["qkv.hook_out", "hook_qkv"]}, Slice(None), None)
    for gradient in (clean[None], noisy[None]):
        recorder.backward(gradient, hook=point)
    recorder.finish()
    assert recorder.cache["hook_qkv_grad"].equal(torch.cat((noisy, clean))[None])
    assert recorder.cache["hook_qkv_grad"] is recorder.cache["qkv.hook_out_grad"]


def test_firings_that_are_no_parts_of_one_stream_are_told() -> None:
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.utilities.slice import Slice

    from conformance.reference.caching import Recorder

    point = HookPoint()
    point.name = "hook_twice"
    recorder = Recorder({point.name: [point.name]}, Slice(None), None)
    for width in (3, 4):
        recorder.forward(torch.zeros(1, 2, width), hook=point)
    with pytest.warns(UserWarning, match="hook_twice fired 2 times with what cannot be joined; the last is kept"):
        recorder.finish()
    assert recorder.cache["hook_twice"].shape == (1, 2, 4)


def test_a_run_goes_on_from_a_residual_stream(bridge) -> None:
    logits, cache = bridge.run_with_cache(ids(), **RUN)
    again, entries = bridge.run_with_cache(cache["blocks.1.hook_in"], start_at_layer=1, **RUN)
    assert again.equal(logits)
    assert entries["blocks.1.hook_out"].equal(cache["blocks.1.hook_out"])
    # The ids that the model is run on are made up, and what comes of them is not the stream's.
    assert not [name for name in entries if name.startswith(("embed.", "blocks.0.")) or name == "hook_embed"]


WRONG_IDS = {
    "floats": (ids().float(), TypeError, "input_ids: got torch.float32, want whole numbers"),
    "booleans": (ids().bool(), TypeError, "input_ids: got torch.bool, want whole numbers"),
    "bytes": (ids().to(torch.uint8), TypeError, "input_ids: got torch.uint8, want whole numbers"),
    "three axes": (ids()[..., None], ValueError, r"input_ids: got shape \[2, 9, 1\], want `batch pos`"),
    "empty": (ids()[:, :0], ValueError, r"input_ids: got shape \[2, 0\], want `batch pos` with a token at least"),
    "negative": (ids() - 60, ValueError, r"input_ids: got ids from -\d+ to -?\d+, want 0 to 66"),
    "beyond": (ids() + 60, ValueError, r"input_ids: got ids from \d+ to \d+, want 0 to 66"),
    "a list": ([1, 2, 3], TypeError, "input_ids: got list, want ids `batch pos`, a text or a list of texts"),
    "nothing": (None, TypeError, "input_ids: got NoneType"),
}


@pytest.mark.parametrize("wrong", WRONG_IDS)
def test_what_cannot_be_ids_is_refused_in_one_line(bridge, wrong) -> None:
    value, kind, told = WRONG_IDS[wrong]
    for run in (bridge, bridge.run_with_cache, bridge.run_with_hooks):
        with pytest.raises(kind, match=told) as raised:
            run(value, **RUN)
        assert "\n" not in str(raised.value)


def test_a_text_is_run_whole_or_refused(bridge) -> None:
    one = {**RUN, "timesteps": torch.zeros(1)}
    assert bridge("hello", **one).equal(bridge(bridge.to_tokens("hello"), **one))
    bridge.cfg.n_ctx = 3
    assert bridge("hello", **one).shape[1] == bridge.run_with_cache("hello", **one)[0].shape[1] > 3


def test_texts_that_need_padding_are_refused_where_no_mask_is_taken(bridge, booted) -> None:
    assert bridge(["hi", "yo"], **RUN).shape[0] == 2
    for run in (bridge, bridge.run_with_cache):
        with pytest.raises(
            NotImplementedError, match=r"texts of \d+ to \d+ tokens need padding, and an attention_mask"
        ):
            run(["hi", "a longer text"], **RUN)
    assert booted(supports_attention_mask=True)(["hi", "yours"], **RUN).shape[0] == 2


@pytest.mark.parametrize("name", ["attention_mask", "one_zero_attention_mask"])
def test_a_mask_is_refused_where_none_is_taken(bridge, booted, name) -> None:
    mask = {name: torch.ones_like(ids())}
    for run in (bridge, bridge.run_with_cache, bridge.run_with_hooks):
        with pytest.raises(NotImplementedError, match=f"{name}: BD3LM makes its own mask and takes no other"):
            run(ids(), **mask, **RUN)
    assert booted(supports_attention_mask=True)(ids(), **mask, **RUN).shape[:2] == (2, 9)


def test_a_loss_of_next_tokens_is_refused_however_it_is_asked_for(bridge) -> None:
    for kind in ("loss", "both"):
        with pytest.raises(NotImplementedError, match="loss"):
            bridge(ids(), return_type=kind, **RUN)
    with pytest.raises(NotImplementedError, match="loss_fn: BD3LM does not predict the next token"):
        bridge.loss_fn(bridge(ids(), **RUN), ids())


def test_predictions_need_a_mask_token(bridge) -> None:
    bridge.tokenizer.mask_token = None
    with pytest.raises(NotImplementedError, match="return_type='predictions': the tokenizer has no mask token"):
        bridge(ids(), return_type="predictions", **RUN)


def test_a_keyword_that_the_model_does_not_know_is_not_swallowed(reference) -> None:
    for run in (reference, reference.run_with_cache, reference.run_with_hooks):
        with pytest.raises(TypeError, match="misspelt"):
            run(ids(), misspelt=1, **RUN)


def test_aliases_are_those_that_stand_for_a_hook(booted) -> None:
    bridge = booted(bridge_aliases={"hook_sinusoid": "sigma_map.hook_in"})
    assert set(bridge.hook_aliases) == {"hook_embed", "hook_unembed", "hook_sinusoid"}
    assert bridge.hook_dict["hook_sinusoid"] is bridge.hook_sinusoid is bridge.hook_dict["sigma_map.hook_in"]
    with pytest.raises(ValueError, match=r"bridge_aliases: 'hook_time' stands for 'sigma.hook_in', no hook"):
        booted(bridge_aliases={"hook_time": "sigma.hook_in"})


FLAGS = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases", "refactor_factored_attn_matrices")


def test_unsound_processing_is_refused_before_anything_changes(booted) -> None:
    bridge = booted(unsound_processing={"fold_ln": "a shift stands in between", "center_writing_weights": "gates"})
    before = {name: value.clone() for name, value in bridge.state_dict().items()}
    none = dict.fromkeys(FLAGS, False)
    for process in (bridge.enable_compatibility_mode, bridge.process_weights):
        with pytest.raises(ValueError, match=r"fold_ln would change BD3LM: a shift .*Set fold_ln=False"):
            process(**{**none, "fold_ln": True})
        with pytest.raises(ValueError, match=r"Set fold_ln=False, center_writing_weights=False"):
            process()
    assert not bridge.compatibility_mode
    assert all(value.equal(before[name]) for name, value in bridge.state_dict().items())
    want = bridge(ids(), **RUN).log_softmax(dim=-1)
    bridge.enable_compatibility_mode(fold_ln=False, center_writing_weights=False)
    got = bridge(ids(), **RUN)
    assert got.mean(dim=-1).abs().max() < 1e-5
    assert torch.allclose(got.log_softmax(dim=-1), want, atol=1e-5)


def test_compatibility_mode_keeps_the_names_of_hook_points(booted) -> None:
    bridge = booted(unsound_processing={"fold_ln": "a shift stands in between"})
    before = {name: point.name for name, point in bridge.hook_dict.items()}
    bridge.enable_compatibility_mode(no_processing=True)
    assert {name: point.name for name, point in bridge.hook_dict.items()} == before
    _, cache = bridge.run_with_cache(ids(), names_filter="embed.hook_out", **RUN)
    assert set(cache) == {"embed.hook_out", "hook_embed"}


def test_the_block_size_is_turned_for_a_while(booted) -> None:
    def turn(self: Any, bridge: Any, size: int) -> None:
        if size == 4:
            raise ValueError("block_size: got 4")
        bridge.cfg.block_size = size

    def strict(bridge: Any, prompt: torch.Tensor) -> torch.Tensor:
        return prompt

    bridge = booted(set_block_size=turn, sampler=staticmethod(strict))
    assert bridge.block_size == 3
    with bridge.with_block_size(7) as same:
        assert same is bridge
        assert bridge.block_size == 7
    assert bridge.block_size == 3
    with pytest.raises(TypeError, match="misspelt"), bridge.with_block_size(7):
        bridge.denoise(ids(), misspelt=1)
    assert bridge.block_size == 3
    with pytest.raises(ValueError, match="got 4"), bridge.with_block_size(4):
        pass
    assert bridge.block_size == 3


def test_a_block_size_that_nobody_can_turn_is_refused(bridge) -> None:
    with pytest.raises(NotImplementedError, match="block_size: the adapter of BD3LM cannot set it"):
        bridge.block_size = 1
    bridge.cfg.block_size = None
    with pytest.raises(NotImplementedError, match="block_size: BD3LM has no blocks of tokens"):
        _ = bridge.block_size


def sampler(bridge: Any, prompt: torch.Tensor, **options: Any) -> torch.Tensor:
    bridge.asked = (tuple(prompt.shape), options)
    return torch.cat((prompt, prompt[:, -1:]), dim=1)


def test_both_ways_to_sample_call_the_adapters_sampler(booted) -> None:
    bridge = booted(sampler=staticmethod(sampler))
    assert bridge.diffusion_generate(ids(), max_new_tokens=5, steps=2).shape == (2, 10)
    assert bridge.asked == ((2, 9), {"max_new_tokens": 5, "steps": 2})
    assert bridge.denoise(ids()[0], length=12).shape == (1, 10)
    assert bridge.asked == ((1, 9), {"length": 12})
    text = bridge.denoise("hello", prepend_bos=False)
    assert text == bridge.diffusion_generate("hello", prepend_bos=False)
    assert text.startswith("hello")
    with pytest.raises(NotImplementedError, match="need padding"):
        bridge.denoise(["hi", "a longer text"])


def test_where_there_is_no_sampler_it_is_said(bridge) -> None:
    with pytest.raises(NotImplementedError, match="denoise: the adapter of BD3LM brings no sampler"):
        bridge.denoise(ids())
    with pytest.raises(NotImplementedError, match="no native sampler"):
        bridge.diffusion_generate(ids())


def test_copies_and_pickles_are_whole_and_apart(reference) -> None:
    want, cache = reference.run_with_cache(ids(), **RUN)
    for twin in (copy.deepcopy(reference), pickle.loads(pickle.dumps(reference))):
        got, entries = twin.run_with_cache(ids(), **RUN)
        assert got.equal(want)
        assert list(entries) == list(cache)
        assert twin.hook_timestep is twin.hook_dict["hook_timestep"] is not reference.hook_timestep
        twin.block_size = 1
    assert reference.block_size == 3


@pytest.mark.parametrize("rows", [None, 1, (0, 1)], ids=str)
@pytest.mark.parametrize("positions", [None, -1, (2, 5)], ids=str)
def test_the_lens_at_the_last_layer_gives_the_logits(reference, positions, rows) -> None:
    from transformer_lens.utilities.slice import Slice

    logits, cache = reference.run_with_cache(ids(), **RUN)
    lens = cache.logit_lens(positions=positions, batch_slice=rows, layers=[0, -1])
    want = Slice(rows).apply(Slice(positions).apply(logits, dim=1), dim=0)
    assert lens.labels == ["0_pre", "final_post"]
    assert lens.readout.applied_ln
    assert torch.allclose(lens.values[1], want, atol=1e-4)
    assert not torch.allclose(lens.values[0], want, atol=1e-1)


def test_the_lens_takes_the_users_own_and_says_what_the_cache_lacks(reference) -> None:
    _, cache = reference.run_with_cache(ids(), **RUN)
    twice = cache.logit_lens(layers=[-1], lens=lambda entry, index: 0 * entry).values
    assert twice.equal(cache.logit_lens(layers=[0], lens=lambda entry, index: 0 * entry).values)
    names = [f"blocks.{layer}.hook_resid_{end}" for layer in (0, 1) for end in ("pre", "post")]
    _, cache = reference.run_with_cache(ids(), names_filter=names, **RUN)
    with pytest.raises(ValueError, match=r"the cache lacks \S+shift\S+ and \S+scale\S+, which modulate the last norm"):
        cache.logit_lens()
