"""Masks in every encoding: each cell of the matrix tells a bridge that honours them from one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.checks.mask.encodings import CONTENTS, NOTHING, cell, encodings, fully_masked, hidden
from conformance.finding import Finding
from conformance.masks import ENCODINGS

LAYOUTS = [layout.name for layout in SPEC.layouts]


@pytest.fixture(scope="module")
def boots() -> Callable[..., Any]:
    """`boots("right")`: the miniature under a bridge that deals with masks in that way, booted once."""
    from conformance import checkpoint
    from conformance.mutants.mask import encodings as masks
    from conformance.subject import Boot

    def swapped(mask: Any, tokens: Any) -> Any:
        spread = masks.spread_out(mask, tokens)
        if not spread.is_floating_point():
            return ~masks.understood(mask, tokens)
        return spread if (spread > 0).any() else spread != 0

    def raises(error: Exception) -> Callable[..., Any]:
        def read(mask: Any, tokens: Any) -> Any:
            raise error

        return read

    reads = {
        "right": masks.understood,
        "swapped": swapped,
        "refused": raises(NotImplementedError("attention_mask: the model takes none")),
        "rejected": raises(TypeError("forward() got an unexpected keyword argument 'attention_mask'")),
        "unnamed": raises(ValueError("not supported")),
        "broken": raises(RuntimeError("attention_mask: expanded size must match existing size")),
    }
    made: dict[str, Boot] = {}

    def boots(way: str) -> Boot:
        if way not in made:
            folder = checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC)
            made[way] = Boot(SPEC, folder, trusted=True)
            if way != "ignored":
                masks.honouring(made[way], reads[way])
        return made[way]

    return boots


def codes(found: list[Finding]) -> set[str]:
    assert {finding.case for finding in found} <= {*CONTENTS}
    return {finding.code for finding in found}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
class TestCell:
    def found(self, boots: Callable, way: str, encoding: str, content: str, layout: str) -> set[str]:
        return codes(list(cell(boots(way).pairs[layout], encoding, content)))

    def test_a_mask_that_is_honoured_passes(self, boots: Callable, encoding: str, content: str, layout: str) -> None:
        assert self.found(boots, "right", encoding, content, layout) == set()

    def test_a_mask_that_is_dropped_is_found(self, boots: Callable, encoding: str, content: str, layout: str) -> None:
        wanted = set() if content == NOTHING else {"ignored"}
        assert self.found(boots, "ignored", encoding, content, layout) == wanted

    def test_the_other_convention_is_found(self, boots: Callable, encoding: str, content: str, layout: str) -> None:
        # Ones that are added everywhere move no softmax.
        harmless = content == NOTHING and encoding.endswith("0/1")
        wanted = set() if harmless else {"value-mismatch"}
        assert self.found(boots, "swapped", encoding, content, layout) == wanted

    def test_a_refusal_names_what_it_refuses(self, boots: Callable, encoding: str, content: str, layout: str) -> None:
        for way in ("refused", "rejected"):
            assert self.found(boots, way, encoding, content, layout) == set()
        for way in ("unnamed", "broken"):
            assert self.found(boots, way, encoding, content, layout) == {"unclear-error"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_content_hides_other_tokens_in_every_row(boots: Callable, layout: str) -> None:
    pair = boots("right").pairs[layout]
    for content in CONTENTS:
        keep = hidden(pair, content)
        assert keep is not None
        assert keep.shape == pair.inputs["input_ids"].shape
        rows = {tuple(row.tolist()) for row in keep}
        assert len(rows) == (1 if content == NOTHING else len(keep))
        assert all(any(row) and all(row) == (content == NOTHING) for row in rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_allowed_lies_far_from_noise_and_from_what_is_found(
    boots: Callable, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conformance import compare

    used: list[float] = []
    monkeypatch.setattr(compare, "within", lambda size, allowed: not used.append(size / allowed) and size <= allowed)
    pair = boots("right").pairs[layout]
    assert list(encodings(pair)) == []
    assert 0 < max(used) < 1 / 3
    pair = boots("ignored").pairs[layout]
    assert min(f.size / f.allowed for f in encodings(pair)) > 1000


def test_without_an_equation_for_the_mask_only_a_stream_of_its_own_is_judged(boots: Callable) -> None:
    from conformance.subject import Boot

    boot = boots("right")
    blind = Boot(replace(SPEC, oracle="test_mask_encodings:untapped"), boot.folder, trusted=True, amend=boot.amend)
    told = {content: codes(list(cell(blind.pairs["sample"], "2-D bool", content))) for content in CONTENTS}
    assert list(told.values()) == [set(), set(), set(), {"unjudged"}]
    assert codes(list(cell(blind.pairs["train"], "2-D bool", CONTENTS[1]))) == {"unjudged"}


def untapped(params: Any, config: Any, inputs: Any, tap: Callable) -> Any:
    """BD3LM's equations, whose mask no one can edit."""
    from conformance.oracles.bd3lm import forward

    return forward(params, config, inputs, lambda name, t: t if name.endswith("hook_mask") else tap(name, t))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["right", "ignored", "refused", "unnamed"])
def test_tokens_that_see_nothing_are_fine_unless_they_are_not_finite(boots: Callable, way: str, layout: str) -> None:
    # A mask that is dropped, or refused without a name, is the matrix's finding.
    assert list(fully_masked(boots(way).pairs[layout])) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_finite_is_found_in_every_encoding(miniature: Path, layout: str) -> None:
    from conformance.mutants.mask import encodings as masks
    from conformance.subject import Boot

    for defect, at in ((masks.nan_where_nothing_is_left, "logits"), (masks.mended_in_the_forward_only, "gradients")):
        boot = Boot(SPEC, miniature, trusted=True)
        defect(boot)
        found = list(fully_masked(boot.pairs[layout]))
        assert [finding.case for finding in found] == [*ENCODINGS]
        assert {(finding.at, finding.code) for finding in found} == {(at, "not-finite")}
