"""GIDD's own sampler: the tokens of a plain loop, bare and through the bridge, and what is told of its forwards."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from plain_gidd import generate_plainly

from conformance import checkpoint
from conformance.adapters.gidd import SPEC

NOISES = {"hybrid": 0.0, "uniform": 1000.0, "mask": -1000.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "ancestral": {},
    "greedy": {"temperature": 0},
    "cool and narrow": {"temperature": 0.5, "top_k": 5},
    "nucleus": {"top_p": 0.8},
    "cosine": {"noise_schedule": "cosine"},
    "no early end": {"min_length": 6},
    "adaptive": {"sampling_method": "adaptive", "tokens_per_step": 2},
    "adaptive and greedy": {"sampling_method": "adaptive", "temperature": 0},
}
SHORT = {"block_length": 4, "steps": 5}


@pytest.fixture(scope="module")
def boots() -> Callable[[str], Any]:
    from conformance.subject import Boot

    made: dict[str, Any] = {}

    def boot(noise: str) -> Any:
        if noise not in made:
            folder = checkpoint.materialise(checkpoint.fixture_folder("gidd"), SPEC, {"noise_type": NOISES[noise]})
            made[noise] = Boot(SPEC, folder, trusted=True)
        return made[noise]

    return boot


def prompt_of(seed: int, length: int = 5, rows: int = 1) -> Any:
    import torch

    return torch.randint(4, 67, (rows, length), generator=torch.Generator().manual_seed(seed))


def plainly(boot: Any, prompt: Any, seed: int, **options: Any) -> tuple[list[int], int]:
    model = boot.reference
    call = lambda ids, **arguments: model(input_ids=ids, **arguments).logits  # noqa: E731
    return generate_plainly(call, model.config, prompt[0].tolist(), seed=seed, **{"max_length": 8, **SHORT, **options})


def natively(model: Any, prompt: Any, seed: int, **options: Any) -> tuple[list[list[int]], int]:
    """The text, and how many forwards denoised it."""
    import torch

    forwards = []
    counting = model.register_forward_pre_hook(
        lambda module, args, kwargs: forwards.append(kwargs.get("use_cache", False)), with_kwargs=True
    )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            text = model.generate(prompt, **{"max_length": 8, **SHORT, **options})
    finally:
        counting.remove()
    return text.tolist(), forwards.count(False)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", OPTIONS)
def test_tokens_and_forwards_are_those_of_a_plain_loop_bare_and_through_the_bridge(
    boots: Callable[[str], Any], name: str, noise: str
) -> None:
    import torch

    boot, options = boots(noise), OPTIONS[name]
    for seed in (0, 1):
        prompt = prompt_of(seed)
        want, forwards = plainly(boot, prompt, seed, **options)
        assert natively(boot.reference, prompt, seed, **options) == ([want], forwards)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            text = boot.bridge.diffusion_generate(prompt, max_new_tokens=8, **SHORT, **options)
        assert text.tolist() == [want]
        assert want[:5] == prompt[0].tolist()
        assert forwards <= 2 * SHORT["steps"]


def test_seeds_and_ways_of_sampling_give_other_texts(boots: Callable[[str], Any]) -> None:
    prompt = prompt_of(0)
    texts = [natively(boots("hybrid").reference, prompt, seed)[0][0] for seed in range(5)]
    assert len({tuple(text) for text in texts}) == 5
    ways = [natively(boots("hybrid").reference, prompt, 0, **options)[0][0] for options in OPTIONS.values()]
    assert len({tuple(text) for text in ways}) >= 7


@pytest.mark.parametrize("noise", NOISES)
def test_what_is_no_mask_stays_only_where_noise_is_masks(boots: Callable[[str], Any], noise: str) -> None:
    model, canvases = boots(noise).reference, []

    def shown(module: Any, args: Any, kwargs: Any) -> None:
        if not kwargs.get("use_cache"):
            canvases.append(kwargs["input_ids"][0, :8].clone())

    counting = model.register_forward_pre_hook(shown, with_kwargs=True)
    natively(model, prompt_of(2), 2, block_length=8, steps=12)
    counting.remove()
    changed = sum(int(((one != 3) & (one != other)).sum()) for one, other in pairwise(canvases))
    assert (changed == 0) is (noise == "mask")
    # A canvas of uniform noise begins with tokens, the others with masks.
    assert bool((canvases[0] == 3).all()) is (noise != "uniform")


def test_a_text_ends_at_the_first_token_that_says_so_also_in_a_prompt(boots: Callable[[str], Any]) -> None:
    model, prompt = boots("hybrid").reference, prompt_of(0)
    whole = natively(model, prompt, 0, eos_token_id=-1)[0][0]
    at = 6
    end = whole[at]
    assert end not in [*prompt[0].tolist(), *whole[5:at]]
    ended = natively(model, prompt, 0, eos_token_id=end)[0][0]
    assert ended == [*whole[:at], *[2] * (len(whole) - at)]
    assert natively(model, prompt, 0, eos_token_id=int(prompt[0, 3]))[0][0] == [*whole[:3], *[2] * 10]
    assert natively(model, prompt, 0, eos_token_id=int(prompt[0, 0]))[0][0] == whole


def test_an_end_among_noise_that_nobody_has_denoised_ends_the_text(boots: Callable[[str], Any]) -> None:
    model, prompt, first = boots("uniform").reference, prompt_of(0), []

    def shown(module: Any, args: Any, kwargs: Any) -> None:
        first.append(kwargs["input_ids"][0].tolist())

    counting = model.register_forward_pre_hook(shown, with_kwargs=True)
    whole, forwards = natively(model, prompt, 0, eos_token_id=-1)
    counting.remove()
    # Of the last columns no text of this length says anything.
    noise = next(token for token in first[1][10:] if token not in [*prompt[0].tolist(), *whole[0], *first[1][:10]])
    ended, fewer = natively(model, prompt, 0, eos_token_id=noise)
    assert fewer < forwards
    assert ended[0][:9] == whole[0][:9]


def test_rows_of_a_batch_are_denoised_together(boots: Callable[[str], Any]) -> None:
    model = boots("hybrid").reference
    prompts = prompt_of(4, rows=3)
    text, forwards = natively(model, prompts, 4)
    assert [row[:5] for row in text] == prompts.tolist()
    assert len({tuple(row[5:]) for row in text}) == 3
    assert forwards <= 2 * SHORT["steps"]


def test_lengths_and_wrong_options(boots: Callable[[str], Any]) -> None:
    model = boots("hybrid").reference
    assert len(natively(model, prompt_of(0), 0, max_length=6)[0][0]) == 11
    assert natively(model, prompt_of(0), 0, max_length=0) == (prompt_of(0).tolist(), 0)
    assert len(natively(model, prompt_of(0, length=20), 0, max_length=99)[0][0]) == 24
    assert natively(model, None, 0)[0][0][0] == 0
    with pytest.raises(ValueError, match="sampling_method"):
        natively(model, prompt_of(0), 0, sampling_method="other")


def test_a_trace_has_prefixes_and_what_is_denoised_behind_them(boots: Callable[[str], Any]) -> None:
    from conformance.denoising import trace_denoising

    assert SPEC.sampler is not None
    bridge, prompt, length = boots("hybrid").bridge, prompt_of(1, rows=2), 17
    options = {"length": length, "seed": 1, "block_length": 4}
    trace = trace_denoising(bridge, prompt, names_filter="blocks.0.hook_in", sampler=SPEC.sampler.sample, **options)
    untraced = SPEC.sampler.sample(bridge, prompt, **options)
    assert trace.result.equal(untraced)
    kinds = {(block, str(kind)) for block, _, kind in trace}
    assert kinds == {(block, kind) for block in range(3) for kind in ("prefix", "denoise")}
    for (block, _, kind), entry in trace.items():
        start = 5 + 4 * block
        assert entry.window == (slice(0, start) if kind == "prefix" else slice(start, 24))
        assert entry["blocks.0.hook_in"].shape == (2, start if kind == "prefix" else 24 - start, 24)
    with pytest.raises(ValueError, match="resume"):
        SPEC.sampler.sample(bridge, prompt, resume=object(), **options)
