"""The dial and the cache: what turns, what is refused, and what is left behind."""

from __future__ import annotations

from collections.abc import Callable
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


def findings(boot: Any, id: str) -> list[Finding]:
    return list(requirements()[id].check(boot))


def refusing(turn: Callable, word: str = "block size {size} does not divide {n}", error: type = ValueError) -> Callable:
    """A dial that looks at the size before it turns."""

    def turned(bridge: Any, size: int) -> None:
        n = bridge.original_model.backbone.n
        if n % size:
            raise error(word.format(size=size, n=n))
        turn(bridge, size)

    return turned


def with_dial(boot: Any, turn: Callable) -> Any:
    boot.spec = replace(SPEC, dial=replace(SPEC.dial, turn=turn))
    return boot


def test_a_dial_that_refuses_what_does_not_fit_passes(boot) -> None:
    assert findings(with_dial(boot, refusing(SPEC.dial.turn)), "mask/dial") == []


@pytest.mark.parametrize(
    ("word", "error"),
    [("block size {size}", RuntimeError), ("it does not divide {n}", ValueError), ("no {size}0 of {n}", ValueError)],
)
def test_a_refusal_names_the_size(boot, word: str, error: type) -> None:
    found = findings(with_dial(boot, refusing(SPEC.dial.turn, word, error)), "mask/dial")
    assert {(finding.at, finding.code) for finding in found} == {("block size", "unclear-error")}
    assert [finding.case for finding in found] == ["2 of 21 tokens", "22 of 21 tokens"]


def test_the_dial_is_turned_through_every_divisor_and_back(boot) -> None:
    turned: list[int] = []

    def turn(bridge: Any, size: int) -> None:
        refusing(SPEC.dial.turn)(bridge, size)
        turned.append(size)

    assert findings(with_dial(boot, turn), "mask/dial") == []
    assert turned == [1, 7, 21, 3]
    # The bridge that others look at was never asked for.
    assert "bridge" not in vars(boot)


def test_a_dial_that_does_nothing_is_wrong_at_every_other_size_and_layout(boot) -> None:
    found = findings(with_dial(boot, refusing(lambda bridge, size: None)), "mask/dial")
    cases = {f"{layout}, block size {size}" for layout in ("train", "sample") for size in (1, 7, 21)}
    assert {finding.case for finding in found if finding.at == "backbone.mask"} == cases
    assert {finding.case for finding in found if finding.at == "logits"} == cases
    assert min(finding.size / finding.allowed for finding in found if finding.at == "logits") > 1000


def test_the_shipped_dial_sets_the_size_wherever_it_is_kept(boot) -> None:
    bridge = boot.boot_again()
    SPEC.dial.turn(bridge, 7)
    model = bridge.original_model
    holders = (bridge.cfg, model.config, model.backbone, *model.backbone.blocks)
    assert {holder.block_size for holder in holders} == {7}
    # The cache takes blocks of the size that the dial says.
    sevens = boot.resized({"block_size": 7})
    sevens.boot_again = lambda: bridge
    assert findings(sevens, "mask/kv-cache") == []


@pytest.mark.parametrize("fields", [{"dial": None}, {"sizes": {k: v for k, v in SPEC.sizes.items() if k != "block"}}])
def test_half_a_dial_is_undeclared(boot, fields: dict) -> None:
    boot.spec = object.__new__(type(SPEC))
    for name in SPEC.__slots__:
        object.__setattr__(boot.spec, name, fields.get(name, getattr(SPEC, name)))
    assert [(finding.at, finding.code) for finding in findings(boot, "mask/dial")] == [("dial", "undeclared")]


def test_a_cache_may_only_be_left_out_where_nothing_can_be_kept(boot) -> None:
    boot.spec = replace(SPEC, cache=None)
    found = findings(boot, "mask/kv-cache")
    assert {(finding.at, finding.code) for finding in found} == {("train", "undeclared"), ("sample", "undeclared")}
    both_ways = boot.small.variants["bidirectional"]
    assert both_ways.spec.cache is None
    assert findings(both_ways, "mask/kv-cache") == []


def test_the_cache_decodes_the_whole_window_and_leaves_the_subject_alone(boot) -> None:
    before = boot.pairs["sample"].plain
    assert findings(boot, "mask/kv-cache") == []
    assert boot.pairs["sample"].call().equal(before)
    assert all(block.kv_cache is None for block in boot.bridge.original_model.backbone.blocks)


def test_an_open_cache_is_closed_when_decoding_fails(boot) -> None:
    from conformance.pair import SubjectRaised

    closed: list[Any] = []
    cache = replace(SPEC.cache, commit={"no_such": 1}, close=lambda model: closed.append(model))

    def amend(bridge: Any) -> None:
        inner = bridge.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if "no_such" in kwargs:
                raise RuntimeError("on purpose")
            return inner(*args, **kwargs)

        object.__setattr__(bridge, "forward", forward)

    boot.spec, boot.amend = replace(SPEC, cache=cache), amend
    with pytest.raises(SubjectRaised, match="on purpose"):
        findings(boot, "mask/kv-cache")
    assert len(closed) == 1


def test_noise_of_the_cache_and_of_the_dial_is_a_third_of_what_is_allowed(boot, monkeypatch) -> None:
    from conformance import compare

    used: list[float] = []
    monkeypatch.setattr(compare, "within", lambda size, allowed: not used.append(size / allowed) and size <= allowed)
    assert findings(boot, "mask/kv-cache") == []
    assert {finding.code for finding in findings(boot, "mask/dial")} == {"accepted"}
    assert 0 < max(used) < 1 / 3
