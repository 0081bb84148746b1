"""Runs that are traced may be edited, ended and taken up again, at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from traces import RESID, booted, left_alone, plain, reference, same

from conformance.adapters.bd3lm import SPEC as SHIPPED
from conformance.adapters.bd3lm_reference import SPEC as REFERENCE

CACHED = pytest.mark.parametrize("cached", [False, True], ids=["recomputed", "cached"])


@pytest.fixture(scope="module", params=[SHIPPED, REFERENCE], ids=str)
def bridge(request: pytest.FixtureRequest) -> Any:
    return booted(request.param)


@pytest.fixture(autouse=True)
def untouched(bridge: Any) -> Iterator[None]:
    with left_alone(bridge):
        yield


def test_edits_apply_once_in_every_forward_that_they_are_for(bridge) -> None:
    seen: list[tuple[int, int, str]] = []

    def count(tensor: Any, hook: Any, step: Any) -> None:
        assert hook.name == "blocks.1.hook_out"
        assert step.masked.equal(step.canvas == 66)
        seen.append((step.block, step.step, step.kind))

    trace = reference(bridge, edits=[(RESID, count)], cached=True)
    assert seen == [key for key, entry in trace.items() if entry.facts.runs]
    seen.clear()
    reference(bridge, edits=[(RESID, count, "denoise"), ([RESID, RESID], count, ["commit"])], cached=True)
    assert seen == [key for key, entry in trace.items() if entry.facts.runs and key[2] != "prefix"]


def push(tensor: Any, hook: Any = None, step: Any = None) -> Any:
    """Steering that moves every stream the same way."""
    import torch

    return tensor + 4 * torch.linspace(-1, 1, tensor.shape[-1])


def test_steering_is_the_same_with_keys_and_values_kept_or_not(bridge) -> None:
    name = "blocks.0.hook_resid_post"
    options: dict[str, Any] = {"length": 21, "logits": True, "kinds": ["denoise"]}
    plainly, cached = (reference(bridge, edits=[(name, push)], cached=kept, **options) for kept in (False, True))
    assert plainly.canvas.equal(cached.canvas)
    assert not plainly.canvas.equal(reference(bridge, length=21).canvas)
    key = (3, 0, "denoise")
    late = reference(bridge, edits=[(name, push, "denoise")], cached=True, **options)
    far, near = ((run[key].logits[:, -3:] - plainly[key].logits[:, -3:]).abs().max() for run in (late, cached))
    assert near < 1e-4 < 1e-2 < far


@CACHED
def test_an_edit_at_one_step_leaves_those_before_as_they_were(bridge, cached: bool) -> None:
    at = (3, 1, "denoise")

    def edit(tensor: Any, hook: Any, step: Any) -> Any:
        return push(tensor) if (step.block, step.step, step.kind) == at else None

    options: dict[str, Any] = {"names_filter": [RESID], "logits": True, "cached": cached, "length": 21}
    before, after = reference(bridge, **options), reference(bridge, edits=[(RESID, edit)], **options)
    assert list(before) == list(after)
    reached = list(before).index(at)
    for number, key in enumerate(before):
        one, other = before[key], after[key]
        if number < reached:
            assert one.canvas_after.equal(other.canvas_after)
            assert same(one.logits, other.logits)
    assert after[at].canvas_before.equal(before[at].canvas_before)
    assert not after[at].logits.equal(before[at].logits)
    # Taps show what the model went on with.
    assert after[at][RESID].equal(push(before[at][RESID]))


@CACHED
def test_a_run_goes_on_from_every_entry_as_if_it_had_not_stopped(bridge, cached: bool) -> None:
    options: dict[str, Any] = {"cached": cached, "logits": True}
    whole = reference(bridge, **options)
    for key, entry in whole.items():
        rest = reference(bridge, resume=entry.state, seed=99, **options)
        assert rest.canvas.equal(whole.canvas)
        # With a cache, blocks before it are taken in again, whatever they were in the first run.
        denoised = [(key, rest[key].logits) for key in rest if key[2] == "denoise"]
        assert all(same(logits, whole[key].logits) for key, logits in denoised)
        assert key in rest or key[2] != "denoise"


@pytest.mark.parametrize(
    "stop",
    [(2, 1), (2, 1, "denoise"), lambda step: (step.block, step.step) == (2, 1)],
    ids=["block and step", "with a kind", "function"],
)
@CACHED
def test_a_run_ends_where_it_is_told_to(bridge, stop: Any, cached: bool) -> None:
    whole = reference(bridge, cached=cached)
    part = reference(bridge, cached=cached, stop=stop)
    assert list(part) == list(whole)[: list(whole).index((2, 1, "denoise"))]
    assert part.stopped.step == 1
    assert part.result is None
    assert part.canvas.equal(whole[2, 1, "denoise"].canvas_before)
    assert reference(bridge, cached=cached, resume=part.stopped.state).canvas.equal(whole.canvas)
    # From an edited canvas it goes another way, with what was written.
    canvas = part.canvas.clone()
    canvas[:, 1] = 5
    other = reference(bridge, cached=cached, resume=replace(part.stopped.state, canvas=canvas)).canvas
    assert other[:, 1].tolist() == [5, 5]
    assert not other.equal(whole.canvas)


def test_a_run_ends_before_the_kind_it_is_told(bridge) -> None:
    whole = list(plain(bridge, guided=True))
    for kind in ("uncond", "denoise"):
        part = plain(bridge, guided=True, stop=(0, 1, kind))
        assert list(part) == whole[: whole.index((0, 1, kind))]
        assert part.stopped.kind == kind
