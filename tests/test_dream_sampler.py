"""Dream's own sampler, through the miniature and through the bridge, against plain loops over the miniature."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.dream_repaired import SPEC

FIXTURE = checkpoint.fixture_folder("dream")
MASK, VOCABULARY, NEW = 64, 67, 9
OPTIONS: dict[str, dict[str, Any]] = {
    "as by default": {},
    "chance, drawn": {"alg": "origin", "temperature": 1.0},
    "chance, narrowed": {"alg": "origin", "temperature": 0.8, "top_p": 0.8, "top_k": 12},
    "likelihood": {"alg": "maskgit_plus", "temperature": 0.7},
    "likelihood, greedy": {"alg": "maskgit_plus", "steps": 4},
    "likelihood, narrowed": {"alg": "maskgit_plus", "temperature": 1.3, "top_p": 0.9},
    "margin": {"alg": "topk_margin", "temperature": 1.0, "steps": 5},
    "margin, by lot": {"alg": "topk_margin", "temperature": 0.5, "alg_temp": 0.3},
    "entropy": {"alg": "entropy", "temperature": 1.0, "top_k": 5},
    "entropy, greedy and by lot": {"alg": "entropy", "alg_temp": 0.5, "top_p": 0.7},
    "another end of time": {"alg": "entropy", "temperature": 0.4, "eps": 0.2, "steps": 6},
    "more steps than tokens": {"alg": "origin", "temperature": 1.0, "steps": 21},
}


@pytest.fixture(scope="module")
def boot() -> Any:
    from conformance.subject import Boot

    boot = Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC), trusted=True)
    # Both are built before anything is seeded: construction draws, too.
    _ = boot.reference, boot.bridge
    return boot


def prompt(rows: int = 2, length: int = 5) -> Any:
    import torch

    return torch.randint(MASK, (rows, length), generator=torch.Generator().manual_seed(rows))


def seeded(seed: int, run: Callable[[], Any]) -> Any:
    """What a run gives with the global generator seeded."""
    import torch

    with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return run()


def plain(boot: Any, seed: int, options: dict[str, Any], given: Any = None, keep: Any = None) -> Any:
    """The loops over the miniature: ids, and the options with what they saw."""
    from plain_dream import Plain, denoise

    def model(ids: Any, attention: Any, positions: Any) -> Any:
        return boot.reference(ids, attention_mask=attention, position_ids=positions).logits

    run = Plain(MASK, NEW, **{"steps": NEW, **options})
    return seeded(seed, lambda: denoise(model, prompt() if given is None else given, run, keep)), run


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", OPTIONS)
def test_tokens_are_those_of_the_plain_loops(boot: Any, name: str, seed: int) -> None:
    options = {"max_new_tokens": NEW, "steps": NEW, **OPTIONS[name]}
    want, run = plain(boot, seed, OPTIONS[name])
    bare = seeded(seed, lambda: boot.reference.diffusion_generate(prompt(), **options))
    bridged = seeded(seed, lambda: boot.bridge.diffusion_generate(prompt(), **options))
    assert bare.equal(want)
    assert bridged.equal(want)
    assert want.shape == (2, 5 + NEW)
    assert want[:, :5].equal(prompt())
    assert len(run.history) == run.steps


def test_seeds_and_options_give_different_texts(boot: Any) -> None:
    texts = {(name, seed): plain(boot, seed, OPTIONS[name])[0] for name in OPTIONS for seed in (0, 1)}
    told = {tuple(text.flatten().tolist()) for text in texts.values()}
    drawn = [name for name in OPTIONS if OPTIONS[name].get("temperature") or OPTIONS[name].get("alg_temp")]
    assert all(not texts[name, 0].equal(texts[name, 1]) for name in drawn)
    assert len(told) >= 2 * len(drawn)


@pytest.mark.parametrize("alg", ["origin", "entropy"])
@pytest.mark.parametrize("through", ["miniature", "bridge"])
def test_a_padded_prompt_has_its_own_mask_and_positions(boot: Any, alg: str, through: str) -> None:
    import torch

    keep = torch.ones(2, 5, dtype=torch.long)
    keep[0, :2] = 0
    options = {"alg": alg, "temperature": 1.0}
    want, _ = plain(boot, 3, options, keep=keep)
    sampler = boot.reference if through == "miniature" else boot.bridge
    asked = {"max_new_tokens": NEW, "steps": NEW, "attention_mask": keep, **options}
    assert seeded(3, lambda: sampler.diffusion_generate(prompt(), **asked)).equal(want)
    unpadded = seeded(3, lambda: sampler.diffusion_generate(prompt(), **{**asked, "attention_mask": keep * 0 + 1}))
    assert unpadded.equal(plain(boot, 3, options)[0])
    assert not unpadded.equal(want)


def test_hooks_see_and_change_canvas_and_logits(boot: Any) -> None:
    def hooks() -> tuple[list[Any], dict[str, Any]]:
        seen: list[Any] = []

        def tokens(step: int | None, x: Any, logits: Any) -> Any:
            seen.append((step, x.clone(), None if logits is None else logits.clone()))
            x = x.clone()
            x[:, -1] = 7
            return x

        def banned(step: int, x: Any, logits: Any) -> Any:
            return logits.index_fill(-1, x.new_tensor([7, MASK]), -1e9)

        return seen, {"tokens_hook": tokens, "logits_hook": banned}

    options = {"alg": "maskgit_plus", "temperature": 1.0}
    seen, ours = hooks()
    want, _ = plain(boot, 5, {**options, **ours})
    told, theirs = hooks()
    got = seeded(
        5,
        lambda: boot.reference.diffusion_generate(
            prompt(),
            max_new_tokens=NEW,
            steps=NEW,
            generation_tokens_hook_func=theirs["tokens_hook"],
            generation_logits_hook_func=theirs["logits_hook"],
            **options,
        ),
    )
    assert got.equal(want)
    assert (want[:, -1] == 7).all()
    assert not (want[:, 5:-1] == 7).any()
    assert [step for step, *_ in seen] == [step for step, *_ in told] == [None, *range(NEW)]
    for (_, ours_x, ours_logits), (_, x, logits) in zip(seen, told, strict=True):
        assert ours_x.equal(x)
        assert (ours_logits is None) == (logits is None)
        assert logits is None or (ours_logits - logits).abs().max() < 1e-5


def test_the_history_holds_every_canvas(boot: Any) -> None:
    options = {"alg": "topk_margin", "temperature": 1.0}
    want, run = plain(boot, 6, options)
    asked = {"max_new_tokens": NEW, "steps": NEW, "return_dict_in_generate": True, "output_history": True, **options}
    got = seeded(6, lambda: boot.reference.diffusion_generate(prompt(), **asked))
    assert type(got).__name__ == "DreamModelOutput"
    assert got.sequences.equal(want)
    assert len(got.history) == NEW
    assert all(one.equal(other) for one, other in zip(got.history, run.history, strict=True))


@pytest.mark.parametrize("name", OPTIONS)
def test_no_mask_is_left_where_none_can_be_drawn(boot: Any, name: str) -> None:
    # The released sampler leaves the mask among the tokens; a trained model does not choose it, random weights may.
    def banned(step: int, x: Any, logits: Any) -> Any:
        return logits.index_fill(-1, x.new_tensor([MASK]), -1e9)

    want, run = plain(boot, 4, {**OPTIONS[name], "logits_hook": banned})
    masks = [int((x == MASK).sum()) for x in run.history]
    assert masks == sorted(masks, reverse=True)
    assert masks[-1] == 0
    assert want[:, :5].equal(prompt())


def test_as_many_tokens_are_revealed_as_the_schedule_says(boot: Any) -> None:
    import torch

    _, run = plain(boot, 0, {"alg": "entropy", "steps": 4})
    times, left, counts = torch.linspace(1, 1e-3, 5), NEW, []
    for step in range(4):
        counts.append(left if step == 3 else int(left * (1 - times[step + 1] / times[step])))
        left -= counts[-1]
    canvases = [torch.full((2, NEW), MASK), *(x[:, 5:] for x in run.history)]
    masks = [(x == MASK).sum(dim=1) for x in canvases]
    assert [(a - b).tolist() for a, b in pairwise(masks)] == [[count] * 2 for count in counts]


def test_by_chance_the_share_of_revealed_tokens_is_as_expected(boot: Any) -> None:
    import torch
    from plain_dream import Plain, by_chance

    x, logits = torch.full((40, 50), MASK), torch.zeros(40, 50, VOCABULARY)
    revealed = seeded(0, lambda: by_chance(x, logits, torch.tensor(0.3), Plain(MASK, 50)))
    assert 0.26 < (revealed != MASK).float().mean() < 0.34


def test_without_room_or_with_an_unknown_algorithm_it_raises(boot: Any) -> None:
    with pytest.raises(ValueError, match="max_length"):
        boot.reference.diffusion_generate(prompt(), max_new_tokens=0)
    with pytest.raises(RuntimeError, match="Unknown alg"):
        boot.reference.diffusion_generate(prompt(), max_new_tokens=2, steps=2, alg="newest")


def test_the_mask_comes_from_the_config_unless_options_are_handed_over(boot: Any) -> None:
    import sys

    options = sys.modules[type(boot.reference).__module__].DreamGenerationConfig
    named = options(max_new_tokens=NEW, steps=NEW, alg="entropy", mask_token_id=MASK)
    got = seeded(0, lambda: boot.reference.diffusion_generate(prompt(), named))
    assert got.equal(plain(boot, 0, {"alg": "entropy"})[0])
    assert options.from_pretrained(FIXTURE).mask_token_id is None
