"""The 2n stream of the reference adapter, and texts with masks in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

MASK, N = 66, 21
TEXT = "A fox, a hare."


def refusal(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    """What a call is refused with."""
    with pytest.raises(ValueError, match=r".") as raised:
        function(*arguments, **keywords)
    return str(raised.value)


@pytest.fixture
def tokenizer() -> Any:
    """The miniature's, as it came: no mask token, and 66 ids below the model's mask."""
    from transformers import PreTrainedTokenizerFast

    from conformance.checkpoint import fixture_folder

    tokenizer = PreTrainedTokenizerFast.from_pretrained(fixture_folder("bd3lm"))
    assert len(tokenizer) == MASK
    return tokenizer


@pytest.fixture
def bridge(miniature: Path) -> Any:
    from conformance.adapters.bd3lm import SPEC
    from conformance.subject import Boot

    return Boot(SPEC, miniature, trusted=True).bridge


def test_the_training_view_hides_tokens_in_its_first_half_alone() -> None:
    import torch

    from conformance.reference.layouts import training_view

    x_0 = torch.tensor([[1, 2, 3], [4, 5, 6]])
    masked = torch.tensor([[True, False, True], [False, False, False]])
    want = [[MASK, 2, MASK, 1, 2, 3], [4, 5, 6, 4, 5, 6]]
    assert training_view(x_0, masked, MASK).tolist() == want
    assert training_view(x_0.int(), masked, MASK).dtype is torch.long
    assert x_0.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("x_0", "masked", "message"),
    [
        ([1, 2], [True, False], "x_0 is torch.int64 of shape (2,), wanted "),
        ([[0.5]], [[True]], "x_0 is torch.float32 of shape (1, 1), wanted "),
        ([[1, 66]], [[True, False]], "x_0 has id 66 at [0, 1], wanted 0 to 65 (66 is the mask)"),
        ([[-1, 2]], [[True, False]], "x_0 has id -1 at [0, 0], wanted 0 to 65 (66 is the mask)"),
        ([[1, 2]], [[1, 0]], "masked is torch.int64 of shape (1, 2), wanted torch.bool of x_0's shape (1, 2)"),
        ([[1, 2]], [[True]], "masked is torch.bool of shape (1, 1), wanted torch.bool of x_0's shape (1, 2)"),
        ([[1, 2]], None, "masked is NoneType, wanted torch.bool of x_0's shape (1, 2)"),
    ],
)
def test_a_training_view_of_what_does_not_fit_is_refused(x_0: Any, masked: Any, message: str) -> None:
    import torch

    from conformance.reference.layouts import training_view

    told = refusal(training_view, torch.tensor(x_0), None if masked is None else torch.tensor(masked), MASK)
    assert told.startswith(message)


def test_slices_cut_the_stream_into_halves_and_blocks() -> None:
    import torch

    from conformance.reference.layouts import TrainingStream, training_view

    stream = TrainingStream(n=6, block_size=2)
    x_0 = torch.arange(6)[None]
    view = training_view(x_0, torch.ones_like(x_0, dtype=torch.bool), MASK)
    assert view[:, stream.noisy].tolist() == [[MASK] * 6]
    assert view[:, stream.clean].tolist() == x_0.tolist()
    assert [view[0, stream.block(j).clean].tolist() for j in range(stream.blocks)] == [[0, 1], [2, 3], [4, 5]]
    index = torch.arange(12)
    assert [index[stream.block(j).noisy].tolist() for j in range(stream.blocks)] == [[0, 1], [2, 3], [4, 5]]


def test_blocks_that_are_not_there_are_refused() -> None:
    from conformance.reference.layouts import TrainingStream

    for size in (0, 4, 7, -2):
        assert refusal(TrainingStream, 6, size) == f"block_size is {size}, wanted one that divides n = 6"
    for index in (-1, 3):
        with pytest.raises(IndexError, match=rf"^block is {index}, wanted 0 to 2$"):
            TrainingStream(n=6, block_size=2).block(index)


def test_the_stream_of_a_bridge_follows_its_block_size(bridge) -> None:
    from conformance.adapters.bd3lm import turn_block_size
    from conformance.reference.layouts import TrainingStream, mask_id_of

    assert mask_id_of(bridge) == MASK
    assert TrainingStream.of(bridge) == TrainingStream(N, 3)
    turn_block_size(bridge, 7)
    assert TrainingStream.of(bridge) == TrainingStream(N, 7)


def test_a_model_with_one_stream_has_no_training_view() -> None:
    from conformance.reference.layouts import TrainingStream

    config = SimpleNamespace(cross_attn=False, model_length=N, block_size=3)
    message = refusal(TrainingStream.of, SimpleNamespace(original_model=SimpleNamespace(config=config)))
    assert message == "this model has one stream only (cross_attn=False), wanted one with a training view"


def test_a_mask_token_is_what_a_tokenizer_lacks_and_gets(tokenizer) -> None:
    from conformance.reference.layouts import add_mask_token

    canvas = [34, MASK, MASK, 9]
    assert tokenizer.decode(canvas) == "Hi", "without it, masks vanish in silence"
    assert tokenizer("H[MASK]").input_ids[-1] != MASK
    others = {text: tokenizer(text).input_ids for text in (TEXT, "", " ", "[", "MASK")}

    add_mask_token(tokenizer, MASK)
    assert (tokenizer.mask_token, tokenizer.mask_token_id, len(tokenizer)) == ("[MASK]", MASK, MASK + 1)
    assert tokenizer.decode(canvas) == "H[MASK][MASK]i"
    assert tokenizer.decode(canvas, skip_special_tokens=True) == "Hi"
    assert tokenizer("H[MASK][MASK]i", add_special_tokens=False).input_ids == canvas
    assert tokenizer.decode(tokenizer("a [MASK] b").input_ids, skip_special_tokens=False).endswith("a [MASK] b")
    assert {text: tokenizer(text).input_ids for text in others} == others

    before = tokenizer.get_vocab()
    add_mask_token(tokenizer, MASK)
    assert tokenizer.get_vocab() == before, "a second time changes nothing"


def test_a_mask_token_survives_being_saved(tokenizer, tmp_path) -> None:
    from transformers import PreTrainedTokenizerFast

    from conformance.reference.layouts import add_mask_token

    add_mask_token(tokenizer, MASK, spelling="<|mask|>")
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again.mask_token_id == MASK
    assert again.decode([34, MASK]) == "H<|mask|>"


@pytest.mark.parametrize(
    ("mask_id", "spelling", "message"),
    [
        (65, "[MASK]", "mask_id is 65, wanted a free one: it is '<|endoftext|>' in the tokenizer"),
        (67, "[MASK]", "mask_id is 67, wanted 66, the tokenizer's next"),
        (66, "a", "spelling is 'a', wanted a new one: it has id 1 in the tokenizer"),
    ],
)
def test_a_mask_token_that_does_not_fit_is_refused(tokenizer, mask_id: int, spelling: str, message: str) -> None:
    from conformance.reference.layouts import add_mask_token

    assert refusal(add_mask_token, tokenizer, mask_id, spelling) == message
    assert (tokenizer.mask_token, len(tokenizer)) == (None, MASK)


def test_a_tokenizer_keeps_the_mask_token_that_it_has(tokenizer) -> None:
    from conformance.reference.layouts import add_mask_token

    add_mask_token(tokenizer, MASK)
    assert refusal(add_mask_token, tokenizer, 67) == "the tokenizer's mask token has id 66, wanted 67"


def test_a_token_that_is_there_but_not_the_mask_becomes_it(tokenizer) -> None:
    from conformance.reference.layouts import add_mask_token

    tokenizer.add_tokens(["[MASK]"])
    add_mask_token(tokenizer, MASK)
    assert (tokenizer.mask_token_id, len(tokenizer)) == (MASK, MASK + 1)


def test_spaces_beside_a_mask_are_kept_by_a_byte_level_tokenizer_too() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from conformance.reference.layouts import add_mask_token

    # As GPT-2's, whose merges do not matter here.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    add_mask_token(tokenizer, 256)
    for text in ("a [MASK] dog", "[MASK][MASK] .", " é[MASK]"):
        ids = tokenizer(text).input_ids
        assert ids.count(256) == text.count("[MASK]")
        assert tokenizer.decode(ids) == text


@pytest.fixture
def masking(bridge) -> Any:
    from conformance.reference.layouts import add_mask_token

    add_mask_token(bridge.tokenizer, MASK)
    return bridge


def test_a_canvas_is_the_text_and_masks_up_to_its_length(masking) -> None:
    from conformance.reference.layouts import text_canvas

    canvas = text_canvas(masking, "a[MASK]c")
    assert canvas.shape == (1, N)
    bos = [65] if masking.cfg.default_prepend_bos else []
    assert canvas[0].tolist() == [*bos, 1, MASK, 3] + [MASK] * (N - 3 - len(bos))
    assert text_canvas(masking, "a[MASK]c", 5, prepend_bos=True).tolist() == [[65, 1, MASK, 3, MASK]]
    assert text_canvas(masking, "a[MASK]c", 5, prepend_bos=False).tolist() == [[1, MASK, 3, MASK, MASK]]
    rows = text_canvas(masking, ["ab", "c", "def"], 3, prepend_bos=False)
    assert rows.tolist() == [[1, 2, MASK], [3, MASK, MASK], [4, 5, 6]]
    assert masking.tokenizer.decode(rows[1]) == "c[MASK][MASK]"


def test_a_canvas_goes_through_the_model(masking) -> None:
    import torch

    from conformance.reference.layouts import text_canvas

    canvas = text_canvas(masking, "a [MASK] dog")
    assert masking(canvas, timesteps=torch.zeros(1), sample_mode=True).shape == (1, N, MASK + 1)


@pytest.mark.parametrize(
    ("text", "length", "message"),
    [
        ("a" * 22, None, f"text has 22 tokens, wanted at most 21: {'a' * 22!r}"),
        (["ab", "abc"], 2, "text has 3 tokens, wanted at most 2: 'abc'"),
        ([], None, "text has no texts, wanted at least one"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(masking, text: Any, length: int | None, message: str) -> None:
    from conformance.reference.layouts import text_canvas

    assert refusal(text_canvas, masking, text, length, prepend_bos=False) == message


def test_a_canvas_needs_the_models_own_mask_token(bridge) -> None:
    from conformance.reference.layouts import add_mask_token, text_canvas

    hint = "(add_mask_token(bridge.tokenizer, 66) gives it one)"
    assert refusal(text_canvas, bridge, "a") == f"the tokenizer's mask token has id None, wanted the model's, 66 {hint}"
    bridge.tokenizer.mask_token = "b"
    assert refusal(text_canvas, bridge, "a") == f"the tokenizer's mask token has id 2, wanted the model's, 66 {hint}"
    assert refusal(add_mask_token, bridge.tokenizer, MASK) == "the tokenizer's mask token has id 2, wanted 66"


def test_the_reference_adapter_brings_all_that_canvases_need(miniature: Path) -> None:
    from conformance.adapters.bd3lm_reference import SPEC
    from conformance.reference.layouts import TrainingStream, text_canvas
    from conformance.subject import Boot

    bridge = Boot(SPEC, miniature, trusted=True).bridge
    canvas = text_canvas(bridge, "a[MASK]c", prepend_bos=True)
    assert canvas.tolist() == [[65, 1, MASK, 3] + [MASK] * (N - 4)]
    assert bridge.tokenizer.decode(canvas[0, :4]) == "<|endoftext|>a[MASK]c"
    # TransformerLens would cut it at the context.
    assert refusal(text_canvas, bridge, "a" * 22, prepend_bos=False).startswith("text has 22 tokens, wanted at most 21")
    with bridge.with_block_size(7):
        assert TrainingStream.of(bridge) == TrainingStream(N, 7)
