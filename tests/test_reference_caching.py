"""Caches of the reference bridge: all that hooks show, apart from all else, and a lens that reads as the model does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from declaring import HALVES, RUN, complete, ids, shipped


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def bridge(miniature: Path) -> Any:
    return shipped(miniature)()


@pytest.fixture
def reference(miniature: Path) -> Any:
    return complete(miniature)


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
