"""LLaDA2's own sampler, through the miniature and through the bridge, against plain loops over the miniature."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.llada2_moe_repaired import SPEC

FIXTURE = checkpoint.fixture_folder("llada2_moe")
MASK, EOS, BLOCK, NEW = 66, 65, 4, 10
OPTIONS: dict[str, dict[str, Any]] = {
    "as by default": {},
    "a temperature of one": {"temperature": 1.0},
    "cold": {"temperature": 0.3},
    "hot": {"temperature": 1.7},
    "the best few": {"temperature": 0.7, "top_k": 5},
    "the likeliest": {"top_p": 0.6},
    "both": {"temperature": 1.2, "top_k": 20, "top_p": 0.8},
    "sure of everything": {"threshold": 0.0},
    "sure of something": {"temperature": 0.4, "threshold": 0.3},
    "two steps": {"steps": 2},
    "three steps": {"steps": 3},
    "one step": {"steps": 1},
    "more steps than tokens": {"steps": 9},
    "many at once": {"minimal_topk": 5},
    "small blocks": {"block_length": 2},
    "one token at a time": {"block_length": 1},
    "one block": {"block_length": 16, "steps": 8},
}


@pytest.fixture(scope="module")
def boot() -> Any:
    from conformance.subject import Boot

    boot = Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC), trusted=True)
    # Both are built before anything is seeded: construction draws, too.
    _ = boot.reference, boot.bridge
    return boot


def prompt(length: int = 5) -> Any:
    import torch

    return torch.randint(EOS, (1, length), generator=torch.Generator().manual_seed(length))


def seeded(seed: int, run: Callable[[], Any]) -> Any:
    """What a run gives with the global generator seeded."""
    import torch

    with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return run()


def plain(boot: Any, seed: int, options: dict[str, Any], given: Any = None) -> tuple[list[int], Any]:
    """The loops over the miniature: tokens, and the options with what they saw."""
    from plain_llada2_moe import Plain, denoise

    def model(ids: Any, mask: Any) -> Any:
        return boot.reference(ids, attention_mask=mask).logits

    run = Plain(**{"mask_id": MASK, "gen_length": NEW, "block_length": BLOCK, "steps": BLOCK, **options})
    return seeded(seed, lambda: denoise(model, (prompt() if given is None else given)[0].tolist(), run)), run


def native(boot: Any, seed: int, options: dict[str, Any], given: Any = None) -> tuple[list[int], list[int]]:
    """What the miniature's own method returns, and the bridge."""
    told = {"mask_id": MASK, "block_length": BLOCK, "steps": BLOCK, **options}
    given = prompt() if given is None else given
    length = told.pop("gen_length", NEW)
    bare = seeded(seed, lambda: boot.reference.generate(given, gen_length=length, **told))
    bridged = seeded(seed, lambda: boot.bridge.diffusion_generate(given, max_new_tokens=length, **told))
    return bare[0].tolist(), bridged[0].tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", OPTIONS)
def test_tokens_are_those_of_the_plain_loops(boot: Any, name: str, seed: int) -> None:
    want, run = plain(boot, seed, OPTIONS[name])
    bare, bridged = native(boot, seed, OPTIONS[name])
    assert bare == want
    assert bridged == prompt()[0].tolist() + want
    assert len(want) == NEW
    assert MASK not in want
    assert len(run.canvases) > 0


@pytest.mark.parametrize("length", [1, 4, 5, 8, 11])
def test_a_prompt_of_any_length_is_kept(boot: Any, length: int) -> None:
    given = prompt(length)
    want, run = plain(boot, 3, {}, given)
    bare, bridged = native(boot, 3, {}, given)
    assert bare == want
    assert bridged == given[0].tolist() + want
    # The block that the prompt has begun is the first to be denoised, and every window ends with a block.
    assert len(run.canvases[0]) == (length // BLOCK + 1) * BLOCK
    assert {len(canvas) % BLOCK for canvas in run.canvases} == {0}
    assert all(canvas[:length] == given[0].tolist() for canvas in run.canvases)


def test_temperatures_of_zero_and_one_are_one(boot: Any) -> None:
    zero, one, cold = (native(boot, 0, {"temperature": t})[0] for t in (0.0, 1.0, 1e-3))
    assert zero == one != cold
    assert native(boot, 1, {"temperature": 1e-3})[0] == cold


def test_equal_shares_are_committed_and_no_token_changes(boot: Any) -> None:
    _, run = plain(boot, 0, {"threshold": 1.0, "gen_length": 11}, prompt(5))
    for before, after in pairwise(run.canvases):
        kept = [(one, other) for one, other in zip(before, after, strict=False) if one != MASK]
        assert all(one == other for one, other in kept)
        if len(before) == len(after):
            assert before.count(MASK) - after.count(MASK) == 1
    assert len(run.canvases) == 11


def test_the_threshold_commits_all_that_is_sure(boot: Any) -> None:
    _, run = plain(boot, 0, {"threshold": 0.0})
    # One forward for each block, from the one that the prompt begins.
    assert [len(canvas) for canvas in run.canvases] == [8, 12, 16]


def ends(boot: Any, seed: int, behind: int) -> int:
    """A token that a run writes first at this place or later."""
    text = plain(boot, seed, {})[0]
    return next(token for token in text[behind:] if token not in text[:behind])


@pytest.mark.parametrize("behind", [0, 4, 8])
def test_a_text_ends_with_its_first_end(boot: Any, behind: int) -> None:
    eos = ends(boot, 4, behind)
    want, run = plain(boot, 4, {"eos_id": eos})
    bare, bridged = native(boot, 4, {"eos_id": eos})
    assert bare == want
    assert bridged == prompt()[0].tolist() + want
    assert want.count(eos) == 1
    assert want[-1] == eos
    # No block is begun behind the one in which it ends.
    assert len(run.canvases[-1]) == ((5 + len(want) - 1) // BLOCK + 1) * BLOCK


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_stopping_early_leaves_out_forwards_and_puts_the_prompt_before_the_text(boot: Any, seed: int) -> None:
    eos = ends(boot, seed, 3)
    early, late = ({"eos_id": eos, "eos_early_stop": flag} for flag in (True, False))
    want, fewer = plain(boot, seed, early)
    bare, bridged = native(boot, seed, early)
    assert bare == bridged == want
    assert want == prompt()[0].tolist() + plain(boot, seed, late)[0]
    assert len(fewer.canvases) <= len(plain(boot, seed, late)[1].canvases)
    # Where there is no end, the prompt is left away, flag or none.
    assert native(boot, seed, {"eos_early_stop": True})[0] == plain(boot, seed, {})[0]


def test_an_end_in_the_prompt_ends_nothing(boot: Any) -> None:
    given = prompt()
    given[0, 1] = given[0, 4] = EOS
    want, _ = plain(boot, 0, {"eos_id": EOS}, given)
    bare, bridged = native(boot, 0, {"eos_id": EOS}, given)
    assert bare == want
    assert bridged == given[0].tolist() + want
    assert len(want) > 1


def test_ids_by_default_are_beyond_a_small_vocabulary(boot: Any) -> None:
    with pytest.raises(IndexError):
        seeded(0, lambda: boot.reference.generate(prompt(), gen_length=NEW, block_length=BLOCK))


def test_fewest_tokens_at_once_bound_the_steps(boot: Any) -> None:
    counts = {least: len(plain(boot, 0, {"minimal_topk": least})[1].canvases) for least in (1, 5, 10)}
    # As many steps as tokens, then two to a block, then one.
    assert counts == {1: 11, 5: 6, 10: 3}


def test_every_forward_denoises_the_block_at_the_end_of_its_window(boot: Any) -> None:
    from conformance.checks.denoising import runs

    run = runs.watched(boot, prompt(), seed=0, length=5 + NEW, steps=BLOCK)
    _, loops = plain(boot, 0, {})
    assert [seen.step.canvas[0].tolist() for seen in run.steps] == loops.canvases
    assert {str(seen.step.kind) for seen in run.steps} == {"denoise"}
    for seen in run.steps:
        end = seen.step.canvas.shape[1]
        assert seen.step.window == slice(0, end)
        assert seen.step.block == end // BLOCK - 1
        assert float(seen.step.t) == seen.step.masked[0, -BLOCK:].float().mean()
        assert seen.outcome.logits is not None
        assert seen.outcome.logits.shape[1] == end
