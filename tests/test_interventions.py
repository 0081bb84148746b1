"""Edits are judged many at once: whatever goes wrong at one of them is seen, and found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.finding import Finding
from conformance.requirement import requirements


@pytest.fixture
def boot(miniature: Path):
    from conformance.subject import Boot

    return Boot(SPEC, miniature, trusted=True)


def findings(pair: Any, check: str = "interventions/edits") -> list[Finding]:
    from conformance.judge import Evidence

    # A pair remembers what it has tried; each defect is tried anew.
    pair.shelf.clear()
    required = requirements()[check]
    offered = {"pair": pair, "evidence": Evidence()}
    return list(required.check(**{name: offered[name] for name in required.parameters}))


@contextmanager
def firing(bridge: Any, name: str, defect: Callable[..., Any]) -> Iterator[None]:
    """Let a defect answer for one hook, for a while."""
    from conformance.mutants.surgery import around_firing

    point = bridge.hook_dict[name]
    kind = type(point)
    around_firing(bridge, name, defect)
    try:
        yield
    finally:
        object.__setattr__(point, "__class__", kind)


def discard(fire: Callable[..., Any], tensor: Any) -> Any:
    fire(tensor)
    return tensor


def test_a_discarded_edit_is_noticed_and_found_at_every_hook(boot) -> None:
    pair = boot.pairs["train"]
    # Token ids cannot be pushed; everything else can.
    hooks = [name for name, (value, *_) in pair.observed.taps.items() if value.is_floating_point()]
    assert len(hooks) == len(pair.observed.taps) - 1
    for name in hooks:
        with firing(boot.bridge, name, discard):
            found = findings(pair)
        assert found[0].at == name
        assert {pair.canonical(finding.at) for finding in found} == {name}
        assert {finding.code for finding in found} == {"edit-discarded"}
    assert findings(pair) == []


def test_two_defects_in_one_forward_are_told_apart(boot) -> None:
    pair = boot.pairs["train"]
    first, second = "blocks.0.ln1.hook_scale", "blocks.1.mlp.in.hook_out"
    with firing(boot.bridge, first, discard), firing(boot.bridge, second, lambda fire, t: (t + fire(t)) / 2):
        found = findings(pair)
    assert [(f.at, f.code) for f in found] == [(first, "edit-discarded"), (second, "edit-changed")]


@pytest.mark.parametrize(
    ("message", "told"), [("edits at {name} are discarded", True), ("edits are discarded", False)], ids=["named", "not"]
)
def test_a_hook_that_discards_edits_says_so_by_name(boot, message: str, told: bool) -> None:
    pair, name = boot.pairs["train"], "blocks.0.ln1.hook_scale"

    def announce(fire: Callable[..., Any], tensor: Any) -> Any:
        if fire(tensor) is not tensor:
            warnings.warn(message.format(name=name), stacklevel=1)
        return tensor

    with firing(boot.bridge, name, announce):
        found = findings(pair)
    assert [finding.at for finding in found] == ([] if told else [name])


@pytest.mark.parametrize("case", ["zero", "mean", "patch", "swap"])
def test_a_replacement_that_is_discarded_is_noticed_at_every_kind_of_component(boot, case: str) -> None:
    from conformance.checks import interventions

    pair = boot.pairs["train"]
    chosen = interventions._one_per_kind(pair)
    assert len(chosen) >= 5
    for name in chosen:
        with firing(boot.bridge, name, discard):
            found = {finding.case: finding for finding in findings(pair, "interventions/replacements")}
        assert found[case].at == name
        assert found[case].size > 100 * found[case].allowed


def test_the_cost_of_edits_does_not_grow_with_their_number(boot) -> None:
    spent = []
    for layers in (2, 5):
        pair = boot.resized({"n_blocks": layers}).pairs["sample"]
        _ = pair.observed, pair.plain, pair.exact, pair.backward.observed, pair.backward.witnesses.exact
        before = pair.boot.forwards.copy()
        assert findings(pair) == []
        spent.append(pair.boot.forwards - before)
    assert spent == [{"subject": 1, "oracle": 2}] * 2


def test_an_edit_that_leaves_the_model_no_numbers_leaves_none_here(boot) -> None:
    """A scale of zero, by which a norm divides."""
    import torch

    from conformance.checks.interventions import _judged
    from conformance.compare import Allowed
    from conformance.edits import Effect

    pair = boot.pairs["train"]
    want = torch.tensor([[1.0, 2.0], [torch.nan, torch.inf]])
    effect = Effect("blocks.0.ln2.hook_scale", "zero", want.clone(), float("nan"), want, Allowed(1e-6, "paths"))
    assert list(_judged(pair, effect)) == []
    (found,) = _judged(pair, replace(effect, got=torch.ones(2, 2)))
    assert (found.code, found.at, found.got, found.want) == (
        "edit-changed",
        "blocks.0.ln2.hook_scale",
        "4 numbers",
        "2 numbers, as in the model",
    )
