"""Wrong inputs and processed weights: which are tried, what counts as a clear refusal, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.mutants.surgery import around
from conformance.requirement import requirements

REGISTRY = requirements()
TOKENS = ["floats", "three axes", "beyond the vocabulary", "negative", "empty", "too long"]
ARGUMENT = ["nan", "a row too many", "two axes", "text"]
LEFT_OUT = ["None", "omitted"]


@pytest.fixture
def boot(miniature: Path):
    from conformance.subject import Boot

    return Boot(SPEC, miniature, trusted=True)


def validating(boot: Any, error: Callable[[str], Exception]) -> None:
    """Let every bridge refuse an input that its layout cannot have, by an error about an argument."""
    import torch

    longest = {pair.layout.ragged: pair.boot.sizes["n"] if pair.layout.ragged else pair.length for pair in pairs(boot)}

    def forward(inner: Callable[..., Any], tokens: Any, timesteps: Any = None, **kwargs: Any) -> Any:
        ragged = bool(kwargs.get("sample_mode"))
        if tokens.is_floating_point() or tokens.ndim != 2 or not 0 < tokens.shape[1] <= longest[ragged]:
            raise error("input_ids")
        if (not ragged and tokens.shape[1] < longest[ragged]) or tokens.min() < 0 or tokens.max() >= 67:
            raise error("input_ids")
        if not isinstance(timesteps, torch.Tensor) or timesteps.shape != tokens.shape[:1] or timesteps.isnan().any():
            raise error("timesteps")
        return inner(tokens, timesteps=timesteps, **kwargs)

    boot.amend = lambda bridge: around(bridge, "forward", forward)


def pairs(boot: Any) -> list[Any]:
    return list(boot.pairs.values())


def test_each_layout_has_its_wrong_inputs(boot: Any) -> None:
    from conformance.checks.loading.inputs import left_out, wrong_arguments, wrong_tokens

    # Left out here, where it has no effect, and under a config in which it has one.
    arguments = [f"timesteps: {kind}" for kind in (*ARGUMENT, *LEFT_OUT, *LEFT_OUT)]
    spoilt = (wrong_tokens, wrong_arguments, left_out)
    tried = {p.layout.name: [wrong.at for spoil in spoilt for wrong in spoil(p)] for p in pairs(boot)}
    assert tried == {
        "train": [*(f"input_ids: {kind}" for kind in [*TOKENS, "too short"]), *arguments],
        "sample": [*(f"input_ids: {kind}" for kind in TOKENS), *arguments],
    }


def test_too_long_is_one_token_more_than_the_model_can_take(boot: Any) -> None:
    from conformance.checks.loading.inputs import wrong_tokens

    spoilt = {
        p.layout.name: w.inputs["input_ids"].shape[1] for p in pairs(boot) for w in wrong_tokens(p) if "long" in w.at
    }
    assert spoilt == {"train": 43, "sample": 22}


def test_left_out_where_it_cannot_matter_it_may_be_accepted_with_the_same_logits(boot: Any) -> None:
    import torch

    def made_up(inner: Callable[..., Any], tokens: Any, timesteps: Any = None, **kwargs: Any) -> Any:
        matters = inner.__self__.original_model.config.time_conditioning  # type: ignore[attr-defined]
        if timesteps is None and matters and clear:
            raise ValueError("timesteps are missing")
        return inner(tokens, timesteps=torch.zeros(len(tokens)) if timesteps is None else timesteps, **kwargs)

    def missing() -> set[tuple[str, str]]:
        found = (f for pair in pairs(boot) for f in REGISTRY["loading/wrong-input"].check(pair))
        return {(f.at, f.code) for f in found if f.at.endswith(("None", "omitted"))}

    boot.amend = lambda bridge: around(bridge, "forward", made_up)
    clear = False
    assert missing() == {("timesteps: None", "accepted"), ("timesteps: omitted", "accepted")}
    clear = True
    assert missing() == set()


def test_the_seeded_inputs_stay_as_they_were(boot: Any) -> None:
    from conformance.checks.loading.inputs import wrong_arguments, wrong_tokens

    for pair in pairs(boot):
        before = {name: value.clone() for name, value in pair.inputs.items() if hasattr(value, "clone")}
        list(wrong_tokens(pair)), list(wrong_arguments(pair))
        assert all(pair.inputs[name].equal(value) for name, value in before.items())


def test_a_bridge_that_names_the_argument_has_no_findings(boot: Any) -> None:
    validating(boot, lambda name: ValueError(f"{name} cannot be used: see the model's documentation"))
    assert [f.line() for pair in pairs(boot) for f in REGISTRY["loading/wrong-input"].check(pair)] == []
    assert all(pair.plain.isfinite().all() for pair in pairs(boot))


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Token ids must be whole numbers", TOKENS),
        ("index 67 is out of bounds for dimension 0", []),
        ("tokenizer gone, valid ID unknown", []),
        ('  File "input_ids.py", in timesteps\nRuntimeError: sizes do not match', []),
        ("a stream of this length is not supported", ["empty", "too long", "too short"]),
    ],
)
def test_what_counts_as_naming_it(boot: Any, text: str, kinds: list[str]) -> None:
    validating(boot, lambda name: ValueError(text))
    unclear = {f.at for pair in pairs(boot) for f in REGISTRY["loading/wrong-input"].check(pair)}
    asked = {f"input_ids: {kind}" for kind in [*TOKENS, "too short"]}
    clear = {f"input_ids: {kind}" for kind in kinds} | ({"input_ids: too short"} if kinds is TOKENS else set())
    assert asked - unclear == clear


FLAGS = ["fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases", "refactor_factored_attn_matrices"]


def processing(boot: Any) -> list[Any]:
    from conformance.judge import Evidence

    return list(REGISTRY["loading/processing-flags"].check(boot, Evidence()))


def test_flags_are_those_that_processing_takes(boot: Any) -> None:
    from conformance.checks.loading.flags import flags

    assert flags(type(boot.bridge)) == FLAGS


def test_each_flag_is_set_alone_and_twice(boot: Any) -> None:
    asked: list[dict[str, bool]] = []

    def enable(inner: Callable[..., Any], **kwargs: Any) -> None:
        asked.append(kwargs)

    boot.amend = lambda bridge: around(bridge, "enable_compatibility_mode", enable)
    assert not processing(boot)
    assert asked == [{name: name == flag for name in FLAGS} for flag in FLAGS for _ in range(2)]


@pytest.mark.parametrize(
    ("error", "codes"),
    [
        (NotImplementedError("fold_ln is not exact here; use no_processing=True"), {}),
        (RuntimeError("Adapter does not support compatibility mode"), {}),
        (KeyError("blocks.0.attn.W_Q"), {"fold_ln": "unclear-error"}),
    ],
)
def test_a_flag_is_refused_by_name_or_with_the_whole_mode(boot: Any, error: Exception, codes: dict[str, str]) -> None:
    def enable(inner: Callable[..., Any], **kwargs: Any) -> None:
        if kwargs["fold_ln"]:
            raise error

    boot.amend = lambda bridge: around(bridge, "enable_compatibility_mode", enable)
    assert {f.at: f.code for f in processing(boot)} == codes
