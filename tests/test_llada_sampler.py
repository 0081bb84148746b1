"""LLaDA's sampler: the same tokens as a plain loop, through the bare stand-in and the bridge, and told step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from plain_llada import answer_plainly

from conformance.adapters.llada_repaired import SPEC as REPAIRED

MASK, N, VOCABULARY, EOS = 64, 24, 67, 62
PROMPTS = [[5, 6, 7, 8, 9], [4, 4, 4, 4, 4], [61, EOS, 1, EOS, 65]]
WAYS = {
    "greedy": {},
    "warm": {"temperature": 1.0},
    "hot": {"temperature": 2.5},
    "any order": {"remasking": "random"},
    "warm, any order": {"temperature": 0.7, "remasking": "random"},
    "guided": {"cfg_scale": 1.5},
    "guided and warm": {"cfg_scale": 0.5, "temperature": 1.0},
    "guided, any order": {"cfg_scale": 0.5, "temperature": 1.0, "remasking": "random"},
    "without an end": {"banned": (EOS, 65), "temperature": 1.0},
}
EVERY_WAY = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
SHAPES = {
    "left to right": (17, {"block_length": 1, "steps": 12}),
    "blocks": (17, {"block_length": 4, "steps": 12}),
    "blocks in two steps": (17, {"block_length": 4, "steps": 6}),
    "uneven shares": (19, {"block_length": 7, "steps": 6}),
    "a short last block": (18, {"block_length": 5, "steps": 9}),
    "one block": (24, {"block_length": 19, "steps": 7}),
    "all at once": (12, {"block_length": 7, "steps": 1}),
    "more steps than tokens": (11, {"block_length": 3, "steps": 10}),
}
EVERY_SHAPE = pytest.mark.parametrize(("length", "shape"), SHAPES.values(), ids=SHAPES)


@pytest.fixture(scope="module")
def boot() -> Any:
    from conformance import checkpoint
    from conformance.subject import Boot

    return Boot(REPAIRED, checkpoint.materialise(checkpoint.fixture_folder("llada"), REPAIRED), trusted=True)


class Bare:
    """The reference, called as a bridge is."""

    def __init__(self, model: Any) -> None:
        self.original_model = model

    def __call__(self, input_ids: Any) -> Any:
        return self.original_model(input_ids).logits


@pytest.fixture
def denoise(boot) -> Callable[..., Any]:
    """`denoise(prompts, *, bridge=...)`: the sampler on the miniature, prompts as lists of ids."""
    import torch

    from conformance.samplers.llada import denoise

    def call(prompt: Sequence[Sequence[int]] | None = PROMPTS, bridge: Any = boot.bridge, **options: Any) -> Any:
        return denoise(bridge, None if prompt is None else torch.tensor(prompt, dtype=torch.long), **options)

    return call


def plainly(boot: Any, prompt: list[int], length: int, seed: int, **options: Any) -> tuple[list[int], int]:
    import torch

    params = boot.params_in(torch.float64)

    def model(ids: list[int]) -> list[list[float]]:
        return boot.oracle(params, boot.config, {"input_ids": torch.tensor([ids])}, lambda _, x: x)[0].tolist()

    return answer_plainly(model, prompt, length, mask=MASK, seed=seed, **options)


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

    def of(self, kind: str) -> list[Any]:
        return [(step, outcome) for step, outcome in self if step.kind == kind]


def told_of(step: Any) -> tuple[Any, ...]:
    return step.kind, step.block, step.step, step.runs, step.t.tolist(), step.canvas.tolist()


@EVERY_WAY
@EVERY_SHAPE
def test_the_tokens_are_those_of_a_plain_loop(
    boot, denoise, length: int, shape: dict[str, int], options: dict[str, Any]
) -> None:
    want = [plainly(boot, PROMPTS[row], length, 3 + row, **shape, **options) for row in (0, 1)]
    watched = Watched()
    got = denoise(PROMPTS[:2], length=length, seed=3, observer=watched, **shape, **options)
    assert got.tolist() == [text for text, _ in want]
    assert {len(watched)} == {runs for _, runs in want}


@EVERY_WAY
def test_the_tokens_are_those_of_the_bare_model(boot, denoise, options: dict[str, Any]) -> None:
    arguments = {"length": 17, "block_length": 4, "steps": 6, **options}
    assert denoise(bridge=Bare(boot.reference), **arguments).equal(denoise(**arguments))


@EVERY_WAY
def test_ten_seeds_differ_as_those_of_a_plain_loop(boot, denoise, options: dict[str, Any]) -> None:
    shape = {"block_length": 6, "steps": 4}
    want = [plainly(boot, PROMPTS[0], 17, seed, **shape, **options)[0] for seed in range(10)]
    got = denoise([PROMPTS[0]] * 10, length=17, seed=range(10), **shape, **options)
    assert got.tolist() == want
    draws = "temperature" in options or "remasking" in options
    assert (len({tuple(text) for text in want}) > 5) is draws
    assert not (got == MASK).any()
    assert not any((got[:, 5:] == id).any() for id in options.get("banned", ()))


@EVERY_WAY
def test_a_row_of_a_batch_is_the_run_of_its_seed(denoise, options: dict[str, Any]) -> None:
    arguments = {"length": 17, "block_length": 4, "steps": 6, **options}
    batch = denoise(seed=[11, 4, 30], **arguments)
    for prompt, seed, row in zip(PROMPTS, (11, 4, 30), batch.tolist(), strict=True):
        assert denoise([prompt], seed=seed, **arguments).tolist() == [row]
    assert denoise(seed=7, **arguments).equal(denoise(seed=[7, 8, 9], **arguments))


@EVERY_WAY
def test_a_run_goes_on_from_any_of_its_states(denoise, options: dict[str, Any]) -> None:
    arguments = {"length": 14, "block_length": 5, "steps": 4, **options}
    watched = Watched()
    want = denoise(seed=2, observer=watched, **arguments)
    # Who watches changes nothing.
    assert want.equal(denoise(seed=2, **arguments))
    for number, state in enumerate(watched.states):
        rest = Watched()
        assert denoise(resume=state, observer=rest, **arguments).equal(want)
        assert denoise(None, resume=state, **arguments).equal(want)
        assert [told_of(step) for step, _ in rest] == [told_of(step) for step, _ in watched[number:]]


@EVERY_WAY
def test_an_edited_canvas_is_seen_at_once_and_kept(boot, denoise, options: dict[str, Any]) -> None:
    arguments = {"length": 17, "block_length": 4, "steps": 12, **options}
    watched, seen = Watched(), []
    denoise(seed=2, observer=watched, **arguments)
    state = watched.states[len(watched) // 2]
    edited = state.canvas.clone()
    # A token of the prompt, one that was written, a mask put back, and one that is filled.
    edited[:, 1], edited[:, 5], edited[:, 6], edited[:, 16] = 3, 3, MASK, 3
    handle = boot.bridge.original_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0] if args else kwargs["input_ids"]), with_kwargs=True
    )
    rest = Watched()
    got = denoise(None, resume=replace(state, canvas=edited), observer=rest, **arguments)
    handle.remove()
    fixed = edited != MASK
    assert got[fixed].equal(edited[fixed])
    assert not (got == MASK).any()
    assert seen[0][:, 5:].equal(edited[:, 5:])
    assert seen["cfg_scale" in options].equal(edited)
    assert next(step.block for step, _ in rest) == 0
    assert {step.block for step, _ in rest} >= {0, 2}


@EVERY_WAY
def test_every_step_is_told_as_it_is(boot, denoise, options: dict[str, Any]) -> None:
    import torch

    from conformance.samplers.llada import inputs_of

    watched, ran = Watched(), []
    handle = boot.bridge.original_model.register_forward_pre_hook(
        lambda _, args, kwargs: ran.append((watched.step, args[0] if args else kwargs["input_ids"])), with_kwargs=True
    )
    want = denoise(length=17, block_length=4, steps=6, observer=watched, **options)
    handle.remove()
    # Each announced forward happens, and no other, on what the step says.
    assert [step for step, _ in ran] == [step for step, _ in watched]
    for step, ids in ran:
        assert ids.equal(inputs_of(step).get("input_ids", step.canvas[:, step.window]))
    assert [step.index for step, _ in watched] == list(range(len(watched)))
    assert len(watched.of("denoise")) == 6
    assert len(watched.of("uncond")) == (6 if "cfg_scale" in options else 0)
    assert [(step.block, step.step) for step, _ in watched.of("denoise")] == [
        (b, s) for b in range(3) for s in range(2)
    ]
    canvas = watched[0][0].canvas
    for step, outcome in watched:
        assert step.canvas.equal(canvas)
        assert step.masked.equal(canvas == MASK)
        assert step.t.tolist() == [masks / 12 for masks in step.masked.sum(-1).tolist()]
        canvas = outcome.canvas
        assert outcome.committed.equal(step.masked & (canvas != MASK))
        assert outcome.committed.sum(-1).tolist() == [2 * (step.kind == "denoise")] * 3
        assert outcome.logits is outcome.aligned
        ids = inputs_of(step).get("input_ids", step.canvas)
        with torch.no_grad():
            assert outcome.logits.equal(boot.bridge(ids))
        if step.kind == "uncond":
            assert outcome.log_probs is None
            continue
        start = 5 + 4 * step.block
        assert outcome.log_probs.shape == (3, 17 - start, VOCABULARY)
        assert torch.allclose(outcome.log_probs.exp().sum(-1), torch.ones(1, dtype=torch.float64))
        rows = outcome.log_probs[step.masked[:, start:]]
        assert torch.allclose(rows, outcome.logits[:, start:].double().log_softmax(-1)[step.masked[:, start:]])
    assert canvas.equal(want)


def test_texts_without_a_prompt_are_as_many_as_there_are_seeds(boot, denoise) -> None:
    arguments = {"temperature": 1.0, "block_length": 6, "steps": 8}
    got = denoise(None, seed=[1, 2], **arguments)
    assert got.shape == (2, N)
    assert got.tolist() == [plainly(boot, [], N, seed, **arguments)[0] for seed in (1, 2)]
    assert denoise(None, seed=1, cfg_scale=3.0, **arguments).equal(got[:1])
    assert denoise([[], []], seed=1, **arguments).equal(got)


def test_a_text_that_is_all_prompt_takes_no_step(denoise) -> None:
    watched = Watched()
    assert denoise(length=5, observer=watched).tolist() == PROMPTS
    assert watched == []


def test_by_default_a_step_reveals_a_token_and_the_answer_is_one_block(denoise) -> None:
    watched = Watched()
    want = denoise(observer=watched)
    assert len(watched) == N - 5
    assert want.equal(denoise(length=N, block_length=N - 5, steps=N - 5))


def test_it_draws_from_nobody_else_s_generator(denoise) -> None:
    import torch

    arguments = {"length": 17, "temperature": 1.0, "remasking": "random"}
    torch.manual_seed(1)
    before, want = torch.get_rng_state(), denoise(**arguments)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(2)
    assert denoise(**arguments).equal(want)


def test_a_mask_is_never_drawn_where_the_model_would(boot, denoise) -> None:
    import torch

    class Fond(Bare):
        def __call__(self, input_ids: Any) -> Any:
            logits = super().__call__(input_ids)
            logits[..., MASK] = 50.0
            return logits

    got = denoise(bridge=Fond(boot.reference), length=17, steps=3, block_length=4)
    assert not (got == MASK).any()
    assert torch.equal(got[:, :5], torch.tensor(PROMPTS))


def test_another_mask_is_that_of_a_fork(denoise) -> None:
    watched = Watched()
    got = denoise([[7, 8, 9]], length=10, mask_id=5, observer=watched)
    assert (watched[0][0].canvas[0, 3:] == 5).all()
    assert not (got == 5).any()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"length": 4}, "length is 4, wanted at least 5"),
        ({"length": N + 1}, "length is 25, wanted at most the model's context, 24"),
        ({"length": 17.0}, "length is 17.0, wanted a whole number"),
        ({"block_length": 0}, "block_length is 0, wanted at least 1"),
        ({"length": 17, "block_length": 4, "steps": 2}, "steps is 2, wanted at least 3"),
        ({"length": 17, "block_length": 4, "steps": 7}, "steps is 7, wanted a multiple of 3, the number of blocks"),
        ({"temperature": -1}, "temperature is -1, wanted a number from 0 on"),
        ({"cfg_scale": float("nan")}, "cfg_scale is nan, wanted a number from 0 on"),
        ({"remasking": "high_confidence"}, "remasking is 'high_confidence', wanted one of 'low_confidence', 'random'"),
        ({"banned": (VOCABULARY,)}, "banned has 67, wanted ids from 0 to 66"),
        ({"banned": range(VOCABULARY)}, "banned has every id"),
        ({"mask_id": VOCABULARY}, "mask_id is 67, wanted mask_id, an id from 0 to 66"),
        ({"seed": [1, 2]}, "seed has 2 seeds, wanted one for each of 3 rows"),
        ({"seed": 1.5}, "seed is 1.5, wanted an integer"),
        ({"prompt": [[1, MASK]]}, r"prompt has id 64 at \[0, 1\], wanted 0 to 66, and not 64, the mask"),
        ({"prompt": [[-1, 1]]}, r"prompt has id -1 at \[0, 0\]"),
        ({"resume": "here"}, "resume is str, wanted a Step.state"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_before_the_model_runs(denoise, options: dict[str, Any], told: str) -> None:
    prompt = options.pop("prompt", PROMPTS)
    with pytest.raises(ValueError, match=told):
        denoise(prompt, bridge=never_runs(), **options)


def never_runs() -> Any:
    """A model of the miniature's config that is not to be called."""
    import torch

    inner = torch.nn.Linear(1, 1).eval()
    inner.config = SimpleNamespace(vocab_size=VOCABULARY, max_sequence_length=N, mask_token_id=MASK)
    return SimpleNamespace(original_model=inner)


def test_a_state_of_another_run_is_told_apart(boot, denoise) -> None:
    import torch

    from conformance.samplers.llada import denoise as raw

    arguments = {"length": 17, "block_length": 4, "steps": 6}
    watched = Watched()
    denoise(observer=watched, **arguments)
    state = watched.states[2]
    wrong = {
        "blocks of 4": (state, {**arguments, "block_length": 6}),
        r"canvas of resume is \[3, 17\], wanted \[3, 21\]": (state, {**arguments, "length": 21, "steps": 8}),
        "has id 64 at": (replace(state, canvas=torch.full_like(state.canvas, MASK)), arguments),
        "has id 67 at": (replace(state, canvas=state.canvas.index_fill(1, torch.tensor(9), 67)), arguments),
    }
    for told, (given, options) in wrong.items():
        with pytest.raises(ValueError, match=told):
            denoise(None, resume=given, **options)
    with pytest.raises(ValueError, match=r"prompt is \[3, 5\]|prompt is \[1, 5\]"):
        denoise(PROMPTS[:1], resume=state, **arguments)
    for prompt in ("text", torch.rand(2, 3), torch.ones(3, dtype=torch.long)):
        with pytest.raises(ValueError, match="prompt is"):
            raw(boot.bridge, prompt)


def test_a_model_that_is_being_trained_is_refused(boot, denoise) -> None:
    boot.bridge.train()
    try:
        with pytest.raises(ValueError, match="training mode"):
            denoise()
    finally:
        boot.bridge.eval()


def test_what_is_said_of_a_canvas_is_the_plain_softmax_with_what_is_revealed() -> None:
    import torch

    from conformance.oracles.likelihood import PARAMETERISATIONS
    from conformance.samplers.llada import said

    generator = torch.Generator().manual_seed(0)
    logits = 9 * torch.randn(2, 7, VOCABULARY, generator=generator)
    tokens = torch.randint(VOCABULARY, (2, 7), generator=generator).index_fill(1, torch.tensor([1, 4]), MASK)
    got, want = said(logits, tokens, MASK), PARAMETERISATIONS["softmax"](logits, tokens, MASK)
    assert torch.equal(got, want)
    assert torch.allclose(got.exp().sum(-1), torch.ones(1, dtype=torch.float64))
    # The mask's own id has what the model gives it.
    assert (got[:, [1, 4], MASK] > -torch.inf).all()
    assert (got[:, 0].exp().max(-1).values == 1).all()


def test_a_trace_has_every_step_of_a_guided_run(boot) -> None:
    import torch

    from conformance.denoising import trace_denoising
    from conformance.samplers.llada import denoise

    trace = trace_denoising(
        boot.bridge,
        torch.tensor(PROMPTS),
        names_filter="blocks.1.hook_out",
        # The trace has an argument `steps` of its own.
        sampler=partial(denoise, steps=6),
        length=17,
        block_length=4,
        cfg_scale=1.0,
    )
    kinds = [trace[key].facts.kind for key in trace]
    assert kinds == ["uncond", "denoise"] * 6
    shown = [trace[key]["blocks.1.hook_out"] for key in trace]
    assert all(tensor.shape == (3, 17, 32) for tensor in shown)
    assert not any(one.equal(other) for one, other in pairwise(shown))
