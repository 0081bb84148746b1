"""Traces: what a run was at every step, under keys of its own, and no token or logit is another for it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from traces import PROMPT, RESID, Watched, booted, ids, left_alone, plain, reference, same

from conformance import trace_denoising
from conformance.adapters.bd3lm import SPEC as SHIPPED
from conformance.adapters.bd3lm_reference import SPEC as REFERENCE

EMBED, CONDITIONING = "hook_embed", "blocks.0.adaln_modulation.hook_in"
CACHED = pytest.mark.parametrize("cached", [False, True], ids=["recomputed", "cached"])


@pytest.fixture(scope="module", params=[SHIPPED, REFERENCE], ids=str)
def bridge(request: pytest.FixtureRequest) -> Any:
    return booted(request.param)


@pytest.fixture(autouse=True)
def untouched(bridge: Any) -> Iterator[None]:
    with left_alone(bridge):
        yield


@pytest.mark.parametrize("options", [{}, {"guided": True}, {"shift": True}, {"length": 27}], ids=str)
def test_entries_tell_what_an_observer_sees_and_change_none_of_it(bridge, options: dict[str, Any]) -> None:
    from plain_sampler import unmask

    watched = Watched()
    want = unmask(bridge, ids(*PROMPT), observer=watched, **options)
    assert want.equal(unmask(bridge, ids(*PROMPT), **options))
    with warnings.catch_warnings():
        # Some hooks of the shipped bridge never fire, or refuse to be attached.
        warnings.simplefilter("ignore")
        trace = plain(bridge, names_filter=None, logits=True, **options)
    assert trace.canvas.equal(want)
    assert trace.result.equal(want)
    assert trace.stopped is None
    assert list(trace) == [(step.block, step.step, step.kind) for step, _ in watched]
    assert len(trace) == len(watched) == len({*trace})
    for entry, (step, outcome) in zip(trace.values(), watched, strict=True):
        assert (entry.facts.index, entry.facts.runs, entry.window) == (step.index, step.runs, step.window)
        shown = (entry.canvas_before, entry.masked, entry.t, entry.canvas_after, entry.committed)
        seen = (step.canvas, step.masked, step.t, outcome.canvas, outcome.committed)
        assert all(map(same, shown, seen))
        logits = (entry.logits, entry.aligned, entry.log_probs)
        assert all(map(same, logits, (outcome.logits, outcome.aligned, outcome.log_probs)))
        assert len(entry) == len(list(entry))
        assert len(entry) > 40 if step.runs else len(entry) == 0


def test_taps_are_those_of_a_forward_alone(bridge) -> None:
    names = [RESID, EMBED, "embed.hook_in", CONDITIONING, "blocks.0.attn.qkv.hook_out"]
    trace = plain(bridge, names_filter=names, length=27)
    for entry in trace.values():
        if entry.facts.runs:
            assert entry.window == slice(6, 27)
            _, cache = bridge.run_with_cache(
                entry.canvas_before[:, entry.window], timesteps=entry.t, sample_mode=True, names_filter=names
            )
            assert all(entry[name].equal(cache[name]) for name in names)
            assert all(name in entry for name in (*names, "embed.hook_out"))
            assert "blocks.0.hook_resid_post" not in entry
            assert entry["embed.hook_out"].equal(entry["hook_embed"])
            assert entry.facts.whole == (CONDITIONING,)


@CACHED
def test_the_reference_sampler_gives_the_same_tokens_and_logits_watched_or_not(bridge, cached: bool) -> None:
    from conformance.reference.sampler import denoise

    watched, options = Watched(), {"length": 24, "seed": 3, "cached": cached}
    want = denoise(bridge, ids(*PROMPT), **options, observer=watched)
    trace = reference(bridge, names_filter=lambda name: "hook_resid" in name, logits=True, **options)
    assert trace.canvas.equal(want)
    assert denoise(bridge, ids(*PROMPT), **options).equal(want)
    assert all(same(entry.logits, seen.logits) for entry, (_, seen) in zip(trace.values(), watched, strict=True))
    kinds = Counter(kind for _, _, kind in trace)
    assert kinds["prefix"] == cached
    assert kinds["commit"] == 7 * cached
    assert len({*trace}) == len(watched)


def test_a_bridge_with_a_sampler_needs_no_other(bridge) -> None:
    if hasattr(bridge, "denoise"):
        trace = trace_denoising(bridge, ids("abcd"), names_filter=RESID, length=9, seed=1)
        assert trace.canvas.equal(bridge.denoise(ids("abcd"), length=9, seed=1))
        assert trace[1, 0, "denoise"][RESID].shape == (1, 6, 24)
        text = trace_denoising(bridge, "abcd", length=9, seed=1)
        assert isinstance(text.result, str)
        assert text.canvas.shape == (1, 9)
    else:
        with pytest.raises(TypeError, match="TransformerBridge has no method denoise: give trace_denoising a sampler"):
            trace_denoising(bridge, ids("abcd"))


def test_options_that_are_called_like_an_argument_of_the_trace(bridge) -> None:
    from conformance.reference.sampler import denoise

    options = {"times": "grid", "steps": 5, "length": 9, "seed": 1}
    trace = trace_denoising(bridge, ids("abcd"), names_filter=RESID, steps=0, sampling=options, sampler=denoise)
    assert trace.canvas.equal(denoise(bridge, ids("abcd"), **options))
    assert {step for _, step, _ in trace} == {0}


CHOSEN = {
    "one": (1, {1}),
    "some": ([0, 2], {0, 2}),
    "slice": (slice(1, None), {1, 2}),
    "range": (range(0, 3, 2), {0, 2}),
    "predicate": (lambda step: not step.runs, {2}),
}


@pytest.mark.parametrize(("steps", "want"), CHOSEN.values(), ids=CHOSEN)
def test_steps_and_kinds_choose_entries(bridge, steps: Any, want: set[int]) -> None:
    trace = plain(bridge, steps=steps, guided=True)
    assert {step for _, step, _ in trace} == want
    assert {block for block, _, _ in trace} >= {0, 1}
    one = plain(bridge, steps=steps, kinds="denoise", guided=True)
    assert list(one) == [key for key in trace if key[2] == "denoise"]
    none = plain(bridge, steps=steps, kinds=["uncond"], guided=True) if want != {2} else {}
    assert list(none) == [key for key in trace if key[2] == "uncond"]


PLACES = {
    "one": (20, [20]),
    "last": (-1, [26]),
    "in the order given": ([25, 3, 7, 7, -8], [25, 7, 19]),
    "slice": (slice(2, 10, 2), [6, 8]),
    "masked": (lambda step: step.masked, None),
    "of one row": (lambda step: step.masked[1], None),
    "tensor of numbers": (lambda step: step.masked[0].nonzero(), None),
    "none": ([], []),
}


@pytest.mark.parametrize(("positions", "want"), PLACES.values(), ids=PLACES)
def test_positions_are_columns_of_the_canvas(bridge, positions: Any, want: list[int] | None) -> None:
    names = [RESID, "embed.hook_in", CONDITIONING]
    every = plain(bridge, names_filter=names, logits=True, length=27)
    trace = plain(bridge, names_filter=names, logits=True, length=27, positions=positions)
    assert trace.keys() == every.keys()
    for entry, whole in zip(trace.values(), every.values(), strict=True):
        masked = [column for column in entry.masked[0].nonzero().flatten().tolist() if column >= 6]
        columns = masked if want is None else want
        assert list(entry.columns) == columns
        assert list(whole.columns) == list(range(6, 27))
        rows = [column - 6 for column in columns]
        if entry.facts.runs:
            assert entry[RESID].equal(whole[RESID][:, rows])
            assert entry["embed.hook_in"].equal(entry.canvas_before[:, columns])
            assert entry[CONDITIONING].equal(whole[CONDITIONING])
            assert entry.logits.equal(whole.logits[:, rows])
        assert entry.log_probs.equal(whole.log_probs)


@CACHED
def test_positions_follow_the_window_of_every_forward(bridge, cached: bool) -> None:
    trace = reference(bridge, names_filter="embed.hook_in", positions=slice(4, 11), cached=cached)
    assert len({entry.window.start for entry in trace.values()}) == (5 if cached else 1)
    for entry in trace.values():
        stream = range(entry.window.start, entry.window.stop)
        assert list(entry.columns) == [column for column in range(4, 11) if column in stream]
        assert entry["embed.hook_in"].equal(entry.canvas_before[:, entry.columns])


def test_only_axes_that_are_positions_are_cut(bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_long_as_wide() -> tuple[int, ...]:
        trace = plain(bridge, length=10, names_filter=CONDITIONING, positions=9)
        return tuple(trace[0, 0, "denoise"][CONDITIONING].shape)

    assert as_long_as_wide() == (2, 10)
    point = bridge.hook_dict[RESID]

    def shape(**says: Any) -> tuple[int, ...]:
        with monkeypatch.context() as patch:
            for name, value in says.items():
                patch.setattr(point, name, value, raising=False)
            trace = plain(bridge, names_filter=RESID, positions=[5, 7])
        assert (trace[0, 0, "denoise"].facts.whole == (point.name,)) is (trace[0, 0, "denoise"][RESID].shape[1] == 12)
        return tuple(trace[0, 0, "denoise"][RESID].shape)

    assert shape() == (2, 2, 24)
    assert shape(positionless=True, pos_dim=1) == (2, 12, 24)
    assert shape(pos_dim=-2) == (2, 2, 24)
    for axis in (2, 3):
        assert shape(pos_dim=axis) == (2, 12, 24)
    conditioning = bridge.hook_dict[CONDITIONING]
    monkeypatch.setattr(conditioning, "positionless", False, raising=False)
    monkeypatch.setattr(conditioning, "pos_dim", 1)
    assert as_long_as_wide() == (2, 1)


def test_patterns_are_cut_by_query(bridge) -> None:
    names = [f"blocks.0.attn.hook_{name}" for name in ("q", "rot_k", "pattern")]
    if all(name in bridge.hook_dict for name in names):
        trace = reference(bridge, names_filter=names, positions=[0, 4, 5], cached=True)
        first, later = trace[0, 0, "prefix"], trace[1, 0, "denoise"]
        assert [tuple(first[name].shape) for name in names] == [(2, 1, 4, 6), (2, 1, 4, 6), (2, 4, 1, 3)]
        assert [tuple(later[name].shape) for name in names] == [(2, 2, 4, 6), (2, 6, 4, 6), (2, 4, 2, 6)]
        # Keys of the prefix are none of the stream's positions.
        assert later.facts.whole == (names[1],)


def test_a_hook_that_fires_twice_keeps_both_firings(bridge) -> None:
    name = "blocks.0.attn.qkv.hook_out"
    entry = plain(bridge, names_filter=name, length=21, twice=True, steps=0, kinds="denoise")[0, 0, "denoise"]
    calls = entry.calls(name)
    assert len(calls) == entry.facts.calls[name] == (1 if hasattr(bridge, "denoise") else 2)
    if len(calls) == 2:
        assert name in entry
        with pytest.raises(
            KeyError, match=r"fired 2 times at \(0, 0, denoise\); calls\('blocks.0.attn.qkv.hook_out'\)"
        ):
            entry[name]


def test_kept_tensors_are_as_large_as_they_look_and_share_nothing(bridge) -> None:
    names = [RESID, EMBED, "blocks.0.hook_resid_pre", CONDITIONING]
    trace = plain(bridge, names_filter=names, positions=[4, 5], logits=True)
    places = Counter()
    for entry, name in product(trace.values(), names):
        if entry.facts.runs:
            assert entry[name].is_contiguous()
            places[entry[name].untyped_storage().data_ptr()] += entry[name].untyped_storage().nbytes()
            assert entry[name].untyped_storage().nbytes() == entry[name].numel() * 4
            assert not entry[name].requires_grad
    assert sum(places.values()) == sum(e[n].numel() * 4 for e, n in product(trace.values(), names) if e.facts.runs)
    assert len(places) == len(names) * sum(entry.facts.runs for entry in trace.values())


def test_tensors_go_to_the_device_asked_for(bridge) -> None:
    trace = plain(bridge, names_filter=RESID, logits=True, to="meta")
    assert {tensor.device.type for entry in trace.values() for tensor in entry.tensors.values()} == {"meta"}
    assert trace[0, 0, "denoise"][RESID].shape == (2, 12, 24)
