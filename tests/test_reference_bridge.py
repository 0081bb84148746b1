"""The bridge of the reference adapter: what it mends in TransformerBridge, each with the case that shows it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from declaring import RUN, complete, ids, shipped


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def booted(miniature: Path) -> Callable[..., Any]:
    return shipped(miniature)


@pytest.fixture
def bridge(miniature: Path) -> Any:
    return shipped(miniature)()


@pytest.fixture
def reference(miniature: Path) -> Any:
    return complete(miniature)


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
