"""First divergence: of a value that went wrong, the place where it did is named, in the report's first line."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conformance import components, taps
from conformance.adapters.bd3lm import SPEC
from conformance.mutants.surgery import around


@pytest.fixture
def boot(miniature: Path):
    from conformance.subject import Boot

    return partial(Boot, SPEC, miniature, trusted=True)


def scaled(tensor: Any) -> Any:
    return tensor * 1.01


def shuffled(tensor: Any) -> Any:
    return tensor.roll(1, dims=-1)


def damage(bridge: Any, path: str, change: Callable[..., Any]) -> None:
    """Change the parameters of a remote module, which a bridge may use without calling it, else what it returns."""
    module = components.unwrapped(components.at(bridge.original_model, path))
    own = list(module.parameters(recurse=False))
    for parameter in own:
        parameter.data = change(parameter.data).contiguous()
    if not own:
        around(module, "forward", lambda inner, *args, **kwargs: change(inner(*args, **kwargs)))


def named(divergence: str) -> str:
    found = re.search(r"first differs at (\S+?)(,|$)", divergence)
    return found[1] if found else ""


@pytest.mark.parametrize("layout", ["train", "sample"])
@pytest.mark.parametrize("defect", [scaled, shuffled])
def test_the_place_that_was_changed_is_named_in_nine_of_ten_cases(boot, layout: str, defect: Callable) -> None:
    told = {}
    places = list(taps.paired(SPEC.points, 2, boot().reference))
    for name, path in places:
        pair = boot().pairs[layout]
        damage(pair.boot.bridge, path, defect)
        told[name] = named(pair.divergence)
    right = [name for name in told if told[name] == f"{name}.hook_out"]
    assert len(right) >= 0.9 * len(places), {name: told[name] for name in told if name not in right}


def test_equal_taps_diverge_nowhere(boot) -> None:
    assert [pair.divergence for pair in boot().pairs.values()] == ["", ""]


def test_of_several_firings_the_wrong_one_is_named(boot) -> None:
    pair = boot().pairs["train"]
    module = components.unwrapped(components.at(pair.boot.bridge.original_model, "backbone.blocks.1.attn_qkv"))
    calls: list[bool] = []

    def second(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls.append(True)
        return inner(*args, **kwargs) * (1.0 if len(calls) % 2 else 1.01)

    around(module, "forward", second)
    assert pair.divergence == (
        "equal up to blocks.1.attn.qkv.hook_in; first differs at blocks.1.attn.qkv.hook_out, call 2 of 2"
    )
