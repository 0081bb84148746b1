"""Taps of every oracle: what one returns is what the equations go on with, and every hook that fires has one."""

from __future__ import annotations

from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters import resolve

CASES: dict[str, dict[str, Any]] = {
    "bd3lm-reference": {},
    "dream@repaired": {},
    "gidd": {},
    # With grouped heads, which the released model does not have.
    "llada@repaired": {"n_kv_heads": 2},
    "llada2_moe@repaired": {},
}
"""Specs that run, with config fields under which most of their equations matter."""

GIVEN = {"backbone.hook_in", "embed.hook_in", "rotary_emb.hook_in"}
"""Taps of what is no part of a sum: token ids, and a tensor that only says in which precision tables are made."""


def boot_of(name: str) -> Any:
    from conformance.subject import Boot

    (spec,) = resolve([name])
    fixture = checkpoint.fixture_folder(str(spec.fixture))
    return Boot(spec, checkpoint.materialise(fixture, spec, {**spec.overrides, **CASES[name]}), trusted=True)


def logits(boot: Any, inputs: Any, heard: list[str], edited: str = "") -> Any:
    """What the equations make of an input, with noise on one tap; names are heard in their order."""
    import torch

    def tap(name: str, tensor: Any) -> Any:
        heard.append(name)
        if name != edited:
            return tensor
        return tensor + torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))

    return boot.oracle(boot.params, boot.config, inputs, tap)


@pytest.mark.parametrize("name", CASES)
def test_an_oracle_uses_what_a_tap_returns(name: str) -> None:
    boot = boot_of(name)
    first, *_, last = boot.pairs.values()
    for pair in (first, last):
        names: list[str] = []
        plain = logits(boot, pair.inputs, names)
        assert len(set(names)) == len(names)
        moved = {each: (logits(boot, pair.inputs, [], each) - plain).abs().max() for each in names if each not in GIVEN}
        assert {each for each, distance in moved.items() if not distance > 1e-3} == set()


@pytest.mark.parametrize("name", CASES)
def test_every_hook_that_fires_has_an_equation(name: str) -> None:
    boot = boot_of(name)
    pair = next(iter(boot.pairs.values()))
    fired = pair.observed.taps
    shown = {name for name, point in boot.bridge.hook_dict.items() if point.name in fired}
    assert {*fired, *shown} - pair.exact.taps.keys() == set()
