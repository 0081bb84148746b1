"""Parity beyond one input: other configs, other shapes, likelihoods, and a mode that only renames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.checks.parity.grid import LEVELS, RUNS
from conformance.finding import Finding
from conformance.requirement import requirements
from conformance.spec import PerRow, Size

REGISTRY = requirements()


def complete() -> type:
    """The shipped adapter, but that it maps the modulation only where the model has one."""
    from transformer_lens.model_bridge.supported_architectures.bd3lm import BD3LMArchitectureAdapter

    class Adapter(BD3LMArchitectureAdapter):
        def __init__(self, cfg: Any) -> None:
            super().__init__(cfg)
            if not cfg.adaln:
                del self.component_mapping["sigma_map"]
                del self.component_mapping["blocks"].submodules["adaln_modulation"]

    return Adapter


@pytest.fixture
def boot(miniature: Path) -> Callable[..., Any]:
    """`boot(**fields)`: the miniature under the spec with other fields."""
    from conformance.subject import Boot

    return lambda **fields: Boot(replace(SPEC, **fields), miniature, trusted=True)


def found(check: str, subject: Any, **more: Any) -> list[Finding]:
    return list(REGISTRY[f"parity/{check}"].check(subject, **more))


def test_a_bridge_that_is_right_in_every_variant_has_no_finding(boot: Callable) -> None:
    assert found("variants", boot(adapter=complete())) == []


@pytest.mark.parametrize("name", SPEC.variants)
def test_a_bridge_that_is_wrong_in_one_variant_is_named(boot: Callable, name: str) -> None:
    from conformance.mutants.surgery import output

    subject = boot(adapter=complete())
    fields = {field for variant in SPEC.variants.values() for field in variant.fields}
    wrong = subject.variants[name]

    def defect(bridge: Any) -> None:
        config = vars(bridge.original_model.config)
        if all(config[field] == wrong.config[field] for field in fields):
            output(bridge, lambda logits: 1.001 * logits)

    for varied in subject.variants.values():
        varied.amend = defect
    findings = found("variants", subject)
    assert {finding.at for finding in findings} == {name}
    assert {finding.case for finding in findings} == {f"{layout}, first at logits" for layout in wrong.pairs}
    assert min(finding.size / finding.allowed for finding in findings) >= 10


def test_what_is_wrong_at_the_shipped_config_is_not_told_again_of_every_variant(boot: Callable) -> None:
    from conformance.mutants.surgery import on_bridge, output

    subject = boot(adapter=complete())
    on_bridge(subject, lambda bridge: output(bridge, lambda logits: 1.001 * logits))
    assert found("variants", subject) == []


def test_the_grid_has_every_value_of_every_axis() -> None:
    assert {level for run in RUNS for level in run.levels} == {*LEVELS}
    assert {len(run.levels) for run in RUNS} == {1, 3}
    assert {run.length for run in RUNS} == {"one token", "whole block", "inside a block", "longest"}
    kinds = {len(set(run.levels)) == 1 for run in RUNS if len(run.levels) > 1}
    assert kinds == {True, False}, "the same noise in all rows, and another in each"


def test_levels_of_an_argument_end_at_its_bounds() -> None:
    argument = PerRow(1.0, 3.0)
    assert argument.levels == (1.0, 1.0002, 2.0, 3.0)
    assert len(argument.levels) == len(LEVELS)


@pytest.mark.parametrize("layout", ["train", "sample"])
def test_the_grid_runs_what_it_says(boot: Callable, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance.pair import Pair

    subject = boot()
    pair, runs = subject.pairs[layout], []
    found("grid", pair)
    call = Pair.call

    def noting(self: Any, inputs: Any = None, **extra: Any) -> Any:
        runs.append(self.inputs)
        return call(self, inputs, **extra)

    monkeypatch.setattr(Pair, "call", noting)
    assert found("grid", pair) == []
    n, block = subject.sizes["n"], subject.sizes["block"]
    lengths = [n, 1, block, n - 1, n] if layout == "sample" else [2 * n] * 5
    assert [tuple(run["input_ids"].shape) for run in runs] == [*zip((3, 1, 1, 3, 1), lengths, strict=True)]
    assert (n - 1) % block, "a length that ends inside a block"
    low, tiny, middle, high = pair.layout.arguments["timesteps"].levels
    noise = [run["timesteps"].tolist() for run in runs]
    assert noise == [pytest.approx(row) for row in ([low, tiny, middle], [high], [low], [high] * 3, [tiny])]


def test_on_long_streams_the_grid_looks_at_the_logits(boot: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance.checks.parity import grid
    from conformance.mutants.surgery import on_bridge, output

    monkeypatch.setattr(grid, "MOST_TOKENS", 64)
    good = boot()
    pair = good.pairs["train"]
    assert found("grid", pair) == []
    short = [run for run in RUNS if len(run.levels) * pair.length <= 64]
    # The equations are asked twice about the pair's own input and about every short run.
    assert good.forwards["oracle"] == 2 + 2 * len(short) < 2 + 2 * len(RUNS)

    wrong = boot()
    on_bridge(wrong, lambda bridge: output(bridge, lambda logits: logits + (len(logits) == 3)))
    findings = found("grid", wrong.pairs["train"])
    assert {(finding.at, finding.case) for finding in findings} == {
        ("logits", str(run)) for run in RUNS if run not in short
    }


def test_a_model_that_is_conditioned_is_also_tried_where_it_is_not(boot: Callable) -> None:
    from conformance.mutants import mutants

    mutant = mutants()["parity/noise-leaks-in"]
    subject = boot()
    mutant.apply(subject)
    conditioned = subject.resized({"time_conditioning": True})
    pair, argument = conditioned.pairs["train"], SPEC.layouts[0].arguments["timesteps"]
    assert argument.acts(conditioned.config)
    other = conditioned.turned("train", argument)
    assert other is not None
    assert not argument.acts(other.boot.config)
    assert [(finding.at, finding.code, finding.case) for finding in found("conditioning", pair)] == [
        ("timesteps", "not-bit-equal", "switched off")
    ]


def test_an_argument_that_always_acts_needs_no_variant(boot: Callable) -> None:
    plain = replace(SPEC.layouts[0], arguments={"timesteps": PerRow(0.0, 6.0)})
    subject = boot(layouts=(plain, SPEC.layouts[1])).resized({"time_conditioning": True})
    assert found("conditioning", subject.pairs["train"]) == []


@pytest.mark.parametrize("fields", [{"halves": None}, {"mask_token": None, "parameterisation": None}])
def test_where_nothing_is_promised_of_likelihoods_nothing_is_asked(boot: Callable, fields: dict[str, Any]) -> None:
    subject = boot(**fields)
    assert found("likelihood", subject) == []
    assert not subject.forwards


def test_an_unknown_way_to_read_logits_is_told_with_those_there_are(boot: Callable) -> None:
    (finding,) = found("likelihood", boot(parameterisation="subz"))
    assert (finding.code, finding.at, finding.got) == ("undeclared", "parameterisation", "subz")
    assert finding.want == "how logits are read: subs, softmax"


def test_blocks_too_large_to_enumerate_are_judged_finer(boot: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance.checks.parity import likelihood

    assert boot().small.sized(block=3).config == boot().config
    seen = []
    judge = likelihood._by_blocks
    monkeypatch.setattr(likelihood, "_by_blocks", lambda text: seen.append(text) or judge(text))
    monkeypatch.setattr(likelihood, "MOST_BLOCK", 2)
    assert found("likelihood", boot()) == []
    assert [text.pair.boot.sizes["block"] for text in seen] == [1]


def test_one_text_reads_the_same_in_any_layout_and_its_bound_bounds(boot: Callable) -> None:
    import torch

    from conformance.checks.parity import likelihood
    from conformance.oracles.likelihood import PARAMETERISATIONS, exact_nelbo, exact_nll, patterns

    subject = boot()
    text = likelihood._text(subject, SPEC.halves, subject, PARAMETERISATIONS["subs"])
    inputs = text.canvases(patterns(3).repeat(1, 7))
    scores = text.scores(inputs, text.pair.reference_logits(inputs))
    blocks = scores.unflatten(-1, (7, 3)).movedim(1, 0)
    assert (exact_nelbo(blocks) > exact_nll(blocks) + 1e-3).all()
    shown = inputs["input_ids"][:, text.noisy] != text.mask
    assert (scores[shown] == 0).all()
    assert (inputs["input_ids"][:, text.clean] == text.tokens).all()
    assert torch.isfinite(scores).all()
    assert text.mask == Size("d_vocab-1").of(subject.sizes)


def judged(subject: Any) -> Any:
    from conformance import ledger
    from conformance.judge import Judge

    return Judge(subject, ledger.load(SPEC, REGISTRY), REGISTRY).verdict(REGISTRY["parity/compatibility"], None)


@pytest.mark.parametrize(
    ("says", "verdict"),
    [("this adapter does not support compatibility mode", "REFUSED"), ("no", "FAIL")],
)
def test_compatibility_mode_may_be_refused_by_name(boot: Callable, says: str, verdict: str) -> None:
    from conformance.mutants.surgery import around, on_bridge

    def refuse(inner: Any, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(says)

    subject = boot()
    on_bridge(subject, lambda bridge: around(bridge, "enable_compatibility_mode", refuse))
    assert judged(subject).verdict == verdict


def test_a_refusal_that_comes_too_late_is_none(boot: Callable) -> None:
    from conformance.mutants.surgery import around, on_bridge, output

    def half_way(bridge: Any) -> None:
        def refuse(inner: Any, *args: Any, **kwargs: Any) -> None:
            output(bridge, lambda logits: logits / 2)
            raise RuntimeError("no compatibility mode")

        around(bridge, "enable_compatibility_mode", refuse)

    subject = boot()
    on_bridge(subject, half_way)
    outcome = judged(subject)
    assert outcome.verdict == "FAIL"
    assert {finding.at for finding in outcome.findings} == {"logits"}
