"""Relations that the caller hands over: made for whatever stream a layout is called on, in the encoding it asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import PLAIN, SPEC
from conformance.oracles.relations import block_causal, right_padded
from conformance.spec import Attend, Layout


def pair_in(layout: Layout, folder: Path) -> Any:
    """Inputs alone are looked at, so that no model needs to understand them."""
    from conformance.subject import Boot

    return Boot(replace(SPEC, layouts=(layout,), limits=(), halves=None, cache=None), folder, trusted=True).pairs[
        layout.name
    ]


def handed(relation: Any, encoding: str) -> Layout:
    return replace(PLAIN, name="handed", relation=relation, arguments={"attention_mask": Attend(encoding)})


@pytest.mark.parametrize(
    ("encoding", "shape"), [("2-D int", (2, 21)), ("3-D bool", (2, 21, 21)), ("4-D additive", (2, 1, 21, 21))]
)
def test_the_argument_is_the_relation(miniature: Path, encoding: str, shape: tuple[int, ...]) -> None:
    import torch

    pair = pair_in(handed(right_padded, encoding), miniature)
    mask = pair.inputs["attention_mask"]
    assert mask.shape == shape
    seen = torch.arange(21) < 21 - 21 // 8
    assert (mask == 0 if encoding == "4-D additive" else mask != 0).expand(shape).eq(seen).all()


def test_a_stream_of_another_length_has_a_relation_of_its_own(miniature: Path) -> None:
    pair = pair_in(handed(block_causal, "4-D bool"), miniature)
    short = pair.other(3, 0, length=7)
    assert short.inputs["attention_mask"].shape == (3, 1, 7, 7)
    assert short.inputs["attention_mask"][0, 0].equal(short.relation)
    longer = pair.attending({"input_ids": pair.inputs["input_ids"].repeat(1, 2)})
    assert longer["attention_mask"].shape == (2, 1, 42, 42)
    # What is given by name is given.
    assert pair.other(1, 0, attention_mask=None).inputs["attention_mask"] is None


def test_only_an_encoding_with_queries_replaces_one(miniature: Path) -> None:
    from conformance.checks.mask.encodings import _encodings
    from conformance.masks import ENCODINGS, KEYS_ONLY

    assert set(_encodings(pair_in(handed(block_causal, "4-D bool"), miniature))) == set(ENCODINGS) - KEYS_ONLY
    assert set(_encodings(pair_in(handed(right_padded, "2-D int"), miniature))) == set(ENCODINGS)
    assert set(_encodings(pair_in(PLAIN, miniature))) == set(ENCODINGS)


def test_logits_are_aligned_with_the_tokens_that_they_speak_of() -> None:
    import torch

    from conformance.denoising import aligned

    logits = torch.arange(8.0).view(1, 4, 2)
    assert aligned(logits, 0).equal(logits)
    assert aligned(logits, 1)[0, :, 0].tolist() == [0, 0, 2, 4]
