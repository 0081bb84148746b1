"""Where the reference sampler's texts end, and what it refuses, on a model that writes what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

EOS, MASK, BLOCK = 8, 9, 4


@pytest.fixture(autouse=True)
def _imported(warm: None) -> None:
    """torch is there."""


class Scripted:
    """A bridge whose row i can only write `scripts[i]`; its tokenizer begins and ends with `EOS`."""

    def __init__(self, *scripts: Sequence[int], **config: Any) -> None:
        import torch

        self.scripts = torch.tensor(scripts)
        fields = {"model_length": 16, "block_size": BLOCK, "vocab_size": 10, "cross_attn": True, **config}
        self.original_model = SimpleNamespace(
            config=SimpleNamespace(**fields),
            training=False,
            parameters=lambda: iter([torch.zeros(1)]),
            backbone=SimpleNamespace(blocks=[]),
        )
        self.tokenizer = SimpleNamespace(bos_token_id=EOS, eos_token_id=EOS)
        self.forwards = 0

    def __call__(self, ids: Any, timesteps: Any, sample_mode: bool, store_kv: bool = False) -> Any:
        import torch

        assert sample_mode
        self.forwards += 1
        columns = slice(0, ids.shape[1])
        said = self.scripts[:, columns]
        assert ((ids == MASK) | (ids == said) | (ids == EOS)).all()
        return 50 * torch.nn.functional.one_hot(said, 10).float()


def texts(bridge: Scripted, prompt: Sequence[Sequence[int]] | None = None, **options: Any) -> list[list[int]]:
    import torch

    from conformance.reference.sampler import denoise

    given = None if prompt is None else torch.tensor(prompt)
    found: list[list[int]] = denoise(bridge, given, **options).tolist()
    return found


LETTERS = [EOS, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 1]
ENDING = [EOS, 1, 2, 3, 4, EOS, 6, 7, 1, 2, 3, 4, 5, 6, 7, 1]


def test_a_text_goes_on_through_an_eos_unless_it_is_to_end_there() -> None:
    assert texts(Scripted(ENDING)) == [ENDING]
    bridge = Scripted(ENDING)
    assert texts(bridge, until_eos=True) == [ENDING[:6]]
    # Two blocks, of which one token was given.
    assert bridge.forwards == 7


def test_rows_that_have_ended_wait_for_the_others_filled_up() -> None:
    from conformance.reference.stops import lengths

    both = Scripted(LETTERS, ENDING)
    got = texts(both, until_eos=True, seed=[1, 2])
    assert got == [LETTERS, ENDING[:6] + [EOS] * 10]
    assert lengths(both.scripts.new_tensor(got), EOS).tolist() == [16, 6]
    assert texts(Scripted(ENDING, ENDING), until_eos=True, seed=[1, 2]) == [ENDING[:6]] * 2


def test_the_prompt_s_own_eos_ends_nothing() -> None:
    from conformance.reference.stops import lengths

    assert texts(Scripted(ENDING), [ENDING[:6]], until_eos=True) == [ENDING]
    assert texts(Scripted(ENDING), [ENDING[:5]], until_eos=True) == [ENDING[:6]]
    assert texts(Scripted([EOS] * 16), [[EOS]], until_eos=True) == [[EOS] * 2]
    assert lengths(Scripted(ENDING).scripts, EOS, prompt=6).tolist() == [16]


def test_a_text_is_cut_where_it_becomes_monotonous() -> None:
    dull = [EOS, 1, 2, 3, 4, 5, 1, 1, 1, 1, 1, 1, 2, 3, 4, 5]
    # After three blocks the last six tokens are all 1; after two they are 2 3 4 5 1 1, log 6 - log(2) / 3 = 1.56 nats.
    assert texts(Scripted(dull), entropy_window=6, min_entropy=0.5) == [dull[:6]]
    assert texts(Scripted(dull), entropy_window=6, min_entropy=1.55) == [dull[:6]]
    assert texts(Scripted(dull), entropy_window=6, min_entropy=1.57) == [dull[:2]]
    assert texts(Scripted(dull), entropy_window=6, min_entropy=None) == [dull]
    # The prompt stays, and a text as long as the window is not looked at yet.
    assert texts(Scripted(dull), [dull[:7]], entropy_window=6, min_entropy=0.5) == [dull[:7]]
    assert texts(Scripted(dull), entropy_window=8, min_entropy=9.0) == [dull[:4]]
    assert texts(Scripted(dull), entropy_window=16, min_entropy=9.0) == [dull]
    both = texts(Scripted(dull, LETTERS), entropy_window=6, min_entropy=0.5, seed=[1, 2])
    assert both == [dull[:6] + [EOS] * 10, LETTERS]


def test_a_length_within_a_block_cuts_the_last_one() -> None:
    for length in range(1, 17):
        assert texts(Scripted(LETTERS), length=length) == [LETTERS[:length]]
    # An end beyond it is none of the text's.
    assert texts(Scripted(ENDING), length=5, until_eos=True) == [ENDING[:5]]


def test_bos_is_the_tokenizer_s_or_given_or_absent() -> None:
    written = [3, *LETTERS[1:]]
    assert texts(Scripted(written), bos=3)[0][0] == 3
    bridge = Scripted(written)
    bridge.tokenizer = None
    bridge.scripts = bridge.scripts.new_tensor([written])
    assert texts(bridge, length=8) == [written[:8]]
    assert bridge.forwards == 8


def test_nothing_is_drawn_from_the_process_s_own_generator() -> None:
    import torch

    before = torch.get_rng_state()
    texts(Scripted(LETTERS))
    texts(Scripted(LETTERS), times="grid", steps=5)
    assert torch.get_rng_state().equal(before)


def test_a_bar_is_shown_on_terminals_for_long_runs(capsys, monkeypatch) -> None:
    import sys

    long = LETTERS * 3

    def shown(length: int, progress: bool | None = None) -> bool:
        texts(Scripted(long, model_length=48), length=length, progress=progress)
        return "denoise" in capsys.readouterr().err

    assert [shown(48), shown(48, True), shown(8, True)] == [False, True, True]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert [shown(48), shown(8), shown(48, False)] == [True, False, False]


# What is given as a prompt, other arguments, and the message.
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "shape": ([1], {}, "prompt is torch.int64 of shape (1,), wanted integer ids, `batch length`"),
    "floats": ([[1.0]], {}, "prompt is torch.float32 of shape (1, 1), wanted integer ids, `batch length`"),
    "truths": ([[True]], {}, "prompt is torch.bool of shape (1, 1), wanted integer ids, `batch length`"),
    "no rows": ([], {}, "prompt is torch.float32 of shape (0,), wanted integer ids, `batch length`"),
    "mask": ([[1, 9]], {}, "prompt has id 9 at [0, 1], wanted 0 to 8 (9 is the mask)"),
    "negative": ([[1], [-1]], {}, "prompt has id -1 at [1, 0], wanted 0 to 8 (9 is the mask)"),
    "length": ([[1, 2, 3]], {"length": 2}, "length is 2, wanted at least the prompt's 3 tokens"),
    "no length": (None, {"length": 0}, "length is 0, wanted at least 1"),
    "nucleus": (None, {"nucleus": 1.5}, "nucleus is 1.5, wanted a number above 0 and up to 1"),
    "no nucleus": (None, {"nucleus": 0.0}, "nucleus is 0.0, wanted a number above 0 and up to 1"),
    "times": (None, {"times": "cosine"}, "times is 'cosine', wanted one of 'first-hitting', 'grid'"),
    "steps": (None, {"times": "grid", "steps": 0}, "steps is 0, wanted at least 1"),
    "few steps": (
        None,
        {"steps": 3},
        "steps is 3, wanted at least 4: first-hitting times reveal one token of a block a step (times='grid' can "
        "reveal several)",
    ),
    "seeds": ([[1], [2]], {"seed": [1]}, "seed has 1 seeds, wanted one for each of 2 rows, or one integer"),
    "no seeds": (None, {"seed": []}, "seed has no seeds, wanted one for each row, or one integer"),
    "window": (None, {"entropy_window": 0}, "entropy_window is 0, wanted at least 1"),
    "eos": (None, {"eos": 9}, "eos is 9, wanted an id from 0 to 8"),
    "text": (None, {"length": "15"}, "length is '15', wanted a whole number"),
    "half a step": (None, {"steps": 2.5}, "steps is 2.5, wanted a whole number"),
    "half a window": (None, {"entropy_window": 2.5}, "entropy_window is 2.5, wanted a whole number"),
    "nucleus in words": (None, {"nucleus": "most"}, "nucleus is 'most', wanted a number"),
    "nan": (None, {"min_entropy": float("nan")}, "min_entropy is nan, wanted a number"),
    "half a seed": (None, {"seed": 1.5}, "seed is 1.5, wanted an integer, or one for each row"),
    "seed in words": (None, {"seed": "ab"}, "seed is 'ab', wanted an integer, or one for each row"),
    "half an id": (None, {"eos": 1.5}, "eos is 1.5, wanted an id from 0 to 8"),
    "bos": (None, {"bos": -1}, "bos is -1, wanted an id from 0 to 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line(case: str) -> None:
    prompt, options, message = REFUSED[case]
    assert refusal(Scripted(LETTERS), prompt, **options) == message


def test_a_prompt_that_is_no_tensor_is_refused() -> None:
    from conformance.reference.sampler import denoise

    message = "prompt is list, wanted a tensor of integer ids, `batch length`"
    with pytest.raises(ValueError, match=f"^{message}$"):
        denoise(Scripted(LETTERS), [1, 2])  # type: ignore[arg-type]


def refusal(bridge: Scripted, prompt: Any = None, **options: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        texts(bridge, prompt, **options)
    assert bridge.forwards == 0
    return str(caught.value)


def test_models_that_cannot_do_it_are_refused() -> None:
    assert refusal(Scripted(LETTERS, cross_attn=False), cached=True) == (
        "cached is True, wanted False: with cross_attn=False every token sees all others"
    )
    training = Scripted(LETTERS)
    training.original_model.training = True
    assert refusal(training) == (
        "the model is in training mode, wanted eval: dropout would draw, too (call bridge.eval())"
    )
    for options in ({"until_eos": True}, {"entropy_window": 15}):
        nameless = Scripted(LETTERS)
        nameless.tokenizer = None
        assert refusal(nameless, **options) == (
            "bridge.tokenizer has no eos id, wanted eos=, or until_eos=False and min_entropy=None"
        )


def test_states_that_do_not_fit_are_refused() -> None:
    from dataclasses import replace

    import torch

    from conformance.reference.state import SamplerState

    canvas, one = torch.tensor([LETTERS[:8]]), torch.ones(1)
    state = SamplerState(canvas, 1, 0, one, (torch.Generator().get_state(),), canvas[:, 0] + 1000, 4)
    for edited, message in (
        (canvas[:, :7], "the canvas of resume has 7 tokens, wanted whole blocks of 4 from 0 to 12"),
        (torch.cat((canvas, canvas), 1), "the canvas of resume has 16 tokens, wanted whole blocks of 4 from 0 to 12"),
        (canvas + 5, "the canvas of resume has id 13 at [0, 0], wanted 0 to 9"),
        (canvas.repeat(2, 1), "the canvas of resume has 2 rows, wanted 1"),
    ):
        assert refusal(Scripted(LETTERS), length=12, resume=replace(state, canvas=edited)) == message
    assert refusal(Scripted(LETTERS), length=12, resume=replace(state, size=2)) == (
        "resume is of a run in blocks of 2, wanted the bridge's block_size, 4"
    )
    assert refusal(Scripted(LETTERS), length=12, resume=canvas) == "resume is Tensor, wanted a Step.state"
    with pytest.raises(ValueError, match=r"^resume has 1 rows, wanted the prompt's 2$"):
        texts(Scripted(LETTERS), [[EOS], [EOS]], resume=state)
