"""The reference sampler: the same tokens as a plain loop, alone and in a batch, in one go and resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from plain_denoising import denoise_plainly

from conformance.adapters.bd3lm_reference import SPEC

TWO_WAYS = pytest.mark.parametrize(
    "options", [{"times": "first-hitting"}, {"times": "grid", "steps": 9}], ids=["first-hitting", "grid"]
)
CACHED = pytest.mark.parametrize("cached", [False, True], ids=["recomputed", "cached"])
EOS = 65


@pytest.fixture(scope="module")
def boot() -> Any:
    from conformance import checkpoint
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC), trusted=True)


@pytest.fixture(scope="module")
def denoise(boot) -> Callable[..., Any]:
    """`denoise(prompt, *, boot=...)`: the sampler on the miniature, prompts as lists of ids."""
    import torch

    from conformance.reference.sampler import denoise

    def call(prompt: Sequence[Sequence[int]] | None = None, boot: Any = boot, **options: Any) -> Any:
        return denoise(boot.bridge, None if prompt is None else torch.tensor(prompt, dtype=torch.long), **options)

    return call


class Watched(list):
    """An observer that remembers every step with its outcome."""

    def before(self, step: Any) -> None:
        self.step = step

    def after(self, step: Any, outcome: Any) -> None:
        assert step is self.step
        self.append((step, outcome))

    @property
    def states(self) -> list[Any]:
        return [step.state for step, _ in self]

    def count(self, kind: str) -> int:  # type: ignore[override]
        return sum(step.kind == kind and step.runs for step, _ in self)


def told_of(step: Any) -> tuple[Any, ...]:
    return step.kind, step.block, step.step, step.runs, None if step.t is None else step.t.tolist()


@TWO_WAYS
@pytest.mark.parametrize("block", [1, 3, 21])
def test_ten_seeds_give_the_tokens_of_a_plain_loop(boot, denoise, block: int, options: dict[str, Any]) -> None:
    sized = boot.sized(block=block)
    want = [denoise_plainly(sized, [], 21, seed, **options)[0] for seed in range(10)]
    assert denoise(boot=sized, seed=range(10), **options).tolist() == want
    assert denoise(boot=sized, seed=range(10), cached=True, **options).tolist() == want
    for seed in (0, 7):
        assert denoise(boot=sized, seed=seed, **options).tolist() == want[seed : seed + 1]
    assert len({tuple(text) for text in want}) == 10


@TWO_WAYS
@pytest.mark.parametrize("prompt", [[5, 6, 7, 8], [EOS] * 6, [4, 4, 4, 4, 4, EOS, 4], [EOS, 1]], ids=len)
def test_prompts_stay_and_are_continued_as_by_the_plain_loop(
    denoise, boot, prompt: list[int], options: dict[str, Any]
) -> None:
    for length in (20, 21):
        want, _ = denoise_plainly(boot, prompt, length, 5, **options)
        for cached in (False, True):
            got = denoise([prompt], length=length, seed=5, cached=cached, **options).tolist()
            assert got == [want]
            assert got[0][: len(prompt)] == prompt


@CACHED
def test_prompts_of_any_length_stay(denoise, cached: bool) -> None:
    text = [[EOS, EOS, 3, EOS, *range(2, 19)], [7] * 21]
    for length in (1, 2, 3, 5, 12, 20):
        prompt = [row[:length] for row in text]
        got = denoise(prompt, cached=cached)
        assert got.shape == (2, 21)
        assert got[:, :length].tolist() == prompt
        assert not (got == 66).any()
    assert denoise(text, cached=cached).tolist() == text


def test_only_texts_without_a_prompt_begin_with_bos(denoise) -> None:
    assert denoise()[0, 0] == EOS
    assert denoise([[]], seed=1)[0, 0] == EOS
    assert denoise(bos=7)[0, 0] == 7
    assert denoise().shape == (1, 21)
    assert denoise(seed=[1, 2]).equal(denoise([[EOS], [EOS]], seed=1))


@CACHED
@TWO_WAYS
def test_a_row_of_a_batch_is_the_run_of_its_seed(denoise, options: dict[str, Any], cached: bool) -> None:
    prompts = [[1, 2, 3, 4], [5, 5, 5, 5], [EOS, 9, EOS, 1]]
    batch = denoise(prompts, seed=[11, 4, 30], length=27, cached=cached, **options)
    for prompt, seed, row in zip(prompts, (11, 4, 30), batch.tolist(), strict=True):
        assert denoise([prompt], seed=seed, length=27, cached=cached, **options).tolist() == [row]


@CACHED
@TWO_WAYS
def test_a_row_of_a_batch_ends_where_it_does_alone(denoise, options: dict[str, Any], cached: bool) -> None:
    arguments, watched = {"length": 30, "until_eos": True, "eos": 19, "cached": cached, **options}, Watched()
    batch = denoise(seed=range(6), observer=watched, **arguments)
    ended = set()
    for seed, row in enumerate(batch.tolist()):
        (alone,) = denoise(seed=seed, **arguments).tolist()
        assert row == alone + [19] * (len(row) - len(alone))
        ended.add(len(alone))
    assert len(ended) > 2
    assert not any(step.masked[step.state.ends < 30].any() for step, _ in watched)
    for state in watched.states[::20]:
        assert denoise(resume=state, **arguments).equal(batch)


@CACHED
@TWO_WAYS
def test_a_run_goes_on_from_any_of_its_states(denoise, options: dict[str, Any], cached: bool) -> None:
    arguments = {"length": 14, "cached": cached, **options}
    prompt, watched = [[1, 2, 3, 4], [5, 5, 5, 5]], Watched()
    want = denoise(prompt, seed=2, observer=watched, **arguments)
    assert want.equal(denoise(prompt, seed=2, **arguments))
    for number, state in enumerate(watched.states):
        rest = Watched()
        assert denoise(prompt, resume=state, observer=rest, **arguments).equal(want)
        # But for the prefix, which a cache has to be told again, the steps are those that were left.
        told = [told_of(step) for step, _ in watched[number:]]
        assert [told_of(step) for step, _ in rest][-len(told) :] == told
        assert {s.kind for s, _ in rest[: -len(told)]} <= {"prefix"}


def test_an_edited_canvas_is_continued_as_if_it_had_come_about(boot, denoise) -> None:
    watched, options = Watched(), {"times": "grid", "steps": 9}
    denoise(seed=3, observer=watched, **options)
    state = next(step.state for step, _ in watched if step.block == 4 and not step.runs)
    edited = state.canvas.clone()
    edited[0, 1] = (edited[0, 1] + 1) % 60
    rests = []
    for cached in (False, True):
        rest = Watched()
        rests.append(denoise(resume=replace(state, canvas=edited), observer=rest, cached=cached, **options))
        # What was kept was of another canvas.
        first = next(step for step, _ in rest if step.kind == "denoise")
        assert (first.block, first.step, first.runs) == (4, state.step, True)
        assert rests[-1][:, :12].equal(edited[:, :12])
    forgetful = denoise(resume=replace(state, canvas=edited, kept=None), **options)
    assert rests[0].equal(rests[1])
    assert rests[0].equal(forgetful)


@CACHED
@TWO_WAYS
def test_tokens_that_are_masked_again_are_found_again(denoise, options: dict[str, Any], cached: bool) -> None:
    watched = Watched()
    want = denoise(seed=3, cached=True, observer=watched, **options)
    commit = next(step.state for step, _ in watched if step.kind == "commit" and step.block == 5)
    edited = commit.canvas.clone()
    edited[0, [4, 15, 17]] = 66
    rest = Watched()
    got = denoise(resume=replace(commit, canvas=edited), observer=rest, cached=cached, **options)
    assert not (got == 66).any()
    given = [column for column in range(18) if column not in (4, 15, 17)]
    assert got[:, given].equal(want[:, given])
    assert {step.block for step, _ in rest if step.kind == "denoise"} == {1, 5, 6}


@CACHED
@TWO_WAYS
def test_every_step_is_told_as_it_is(boot, denoise, options: dict[str, Any], cached: bool) -> None:
    watched, ran = Watched(), []
    handle = boot.bridge.original_model.register_forward_pre_hook(lambda *_: ran.append(watched.step))
    try:
        denoise([[1, 2, 3, 4], [EOS] * 4], observer=watched, length=20, cached=cached, **options)
    finally:
        handle.remove()
    # Each announced forward happens, and no other.
    assert ran == [step for step, _ in watched if step.runs]
    assert [step.index for step, _ in watched] == list(range(len(watched)))
    assert watched.count("denoise") <= sum(int(outcome.committed.sum()) for _, outcome in watched)
    assert watched.count("commit") == (6 if cached else 0)
    assert watched.count("prefix") == (1 if cached else 0)
    for step, outcome in watched:
        assert step.masked.equal(step.canvas == 66)
        assert outcome.committed.equal(step.masked & (outcome.canvas != 66))
        assert outcome.canvas[~outcome.committed].equal(step.canvas[~outcome.committed])
        end = 3 * step.block + 3
        assert step.window == slice(3 * step.block if cached else 0, end)
        assert (outcome.logits is None) is (not step.runs)
        if step.runs:
            assert outcome.logits.shape == (2, end - step.window.start, 67)
            assert outcome.aligned is outcome.logits
            assert not outcome.logits.requires_grad
        if step.kind == "denoise":
            assert step.t.shape == (2,)
            assert outcome.log_probs.shape == (2, 3, 67)
            assert (outcome.log_probs[..., 66] == float("-inf")).all()
        else:
            assert step.t is outcome.log_probs is None
            assert not outcome.committed.any()
    for (step, outcome), (after, _) in pairwise(watched):
        assert after.canvas[:, : step.canvas.shape[1]].equal(outcome.canvas)
        if step.kind == after.kind == "denoise" and after.block == step.block:
            assert (after.step, (after.t <= step.t).all().item()) == (step.step + 1, True)


def test_no_step_reveals_more_than_one_token_at_first_hitting_times(denoise) -> None:
    denoise(seed=[1, 2], observer=(watched := Watched()))
    assert all((outcome.committed.sum(-1) == 1).all() for _, outcome in watched)
    assert watched.count("denoise") == 20


def test_a_coarse_grid_needs_fewer_forwards_than_tokens(denoise, boot) -> None:
    sized, watched = boot.sized(block=21), Watched()
    got = denoise(boot=sized, times="grid", steps=4, observer=watched)
    want, forwards = denoise_plainly(sized, [], 21, 0, "grid", steps=4)
    assert got.tolist() == [want]
    assert watched.count("denoise") == forwards <= 4
    assert [step.t.tolist() for step, _ in watched] == [[1.0], [0.75], [0.5], [0.25]][: len(watched)]


def test_the_model_runs_no_more_often_than_there_are_tokens(denoise) -> None:
    for seed in range(3):
        denoise(seed=seed, times="grid", steps=40, observer=(watched := Watched()))
        assert 7 <= watched.count("denoise") <= 20 < len(watched)


@TWO_WAYS
def test_models_that_hear_the_noise_level_are_told_it(boot, denoise, options: dict[str, Any]) -> None:
    variant = boot.variants["conditioned on noise"]
    want = [denoise_plainly(variant, [], 21, seed, **options)[0] for seed in range(3)]
    assert denoise(boot=variant, seed=range(3), **options).tolist() == want
    watched = Watched()
    got = denoise(boot=variant, cached=True, observer=watched, **options)
    assert denoise(boot=variant, cached=True, resume=watched.states[-4], **options).equal(got)


@pytest.mark.parametrize("name", ["without adaLN", "even length"])
def test_other_models_of_the_class_are_sampled(boot, denoise, name: str) -> None:
    variant = boot.variants[name]
    want = denoise_plainly(variant, [], variant.sizes["n"], 1, "first-hitting")[0]
    assert denoise(boot=variant, seed=1).tolist() == [want]
    assert denoise(boot=variant, seed=1, cached=True).tolist() == [want]


@TWO_WAYS
def test_texts_may_be_longer_than_the_context(boot, denoise, options: dict[str, Any]) -> None:
    want = [denoise_plainly(boot, [], 50, seed, **options)[0] for seed in range(2)]
    assert denoise(length=50, seed=range(2), **options).tolist() == want
    denoise(length=50, observer=(watched := Watched()), **options)
    assert {(s.window.start, s.window.stop) for s, _ in watched} == {(max(e - 21, 0), e) for e in range(3, 52, 3)}


@TWO_WAYS
def test_a_cache_that_has_dropped_blocks_is_made_again_to_go_on(denoise, options: dict[str, Any]) -> None:
    watched, arguments = Watched(), {"length": 40, "cached": True, **options}
    want = denoise([[1, 2, 3, 4]], observer=watched, **arguments)
    assert want.equal(denoise([[1, 2, 3, 4]], resume=watched.states[-5], **arguments))


def test_a_cache_beyond_the_context_agrees_while_nothing_has_left_it(denoise) -> None:
    got, want = denoise(length=60, cached=True), denoise(length=60)
    assert got.shape == want.shape == (1, 60)
    assert got[:, :21].equal(want[:, :21])


def test_the_cache_is_gone_after_a_run_whatever_happens(boot, denoise) -> None:
    class Broken(Watched):
        def after(self, step: Any, outcome: Any) -> None:
            raise KeyError("broken")

    denoise(cached=True)
    assert {block.kv_cache for block in boot.bridge.original_model.backbone.blocks} == {None}
    with pytest.raises(KeyError, match="broken"):
        denoise(cached=True, observer=Broken())
    assert {block.kv_cache for block in boot.bridge.original_model.backbone.blocks} == {None}


def test_hooks_that_edit_change_the_text(boot, denoise) -> None:
    with boot.bridge.hooks(fwd_hooks=[("blocks.1.hook_resid_post", lambda tensor, hook: -3 * tensor)]):
        edited = denoise(seed=1)
    assert not edited.equal(denoise(seed=1))
