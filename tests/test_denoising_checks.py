"""The denoising family: who has no sampler says so, and a sampler cannot pass by leaving things out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm_reference import SPEC
from conformance.finding import Finding
from conformance.requirement import requirements

OURS = [required for required in requirements().values() if required.family == "denoising"]


@pytest.fixture
def boot(miniature: Path):
    from conformance.judge import Boot

    return Boot(SPEC, miniature, trusted=True)


def findings(boot: Any, name: str) -> list[Finding]:
    from conformance.judge import Evidence

    offered = {"boot": boot, "evidence": Evidence()}
    (required,) = [required for required in OURS if required.id == f"denoising/{name}"]
    return list(required.check(**{parameter: offered[parameter] for parameter in required.parameters}))


def let(boot: Any, **fields: Any) -> None:
    """Let the spec state other facts of its sampler."""
    boot.spec = replace(boot.spec, sampler=replace(boot.spec.sampler, **fields))


def verdicts(found: Any) -> dict[str, set[str]]:
    return {required.id: set(found.verdicts(required.id).values()) for required in OURS}


def test_an_adapter_without_a_sampler_is_asked_once_and_refuses_all(run: Callable) -> None:
    found = run("--adapter", "bd3lm", "-k", "denoising")
    assert verdicts(found) == {required.id: {"REFUSED"} for required in OURS}


def test_no_sampler_and_no_word_of_it_is_red(run: Callable, spec: Callable) -> None:
    named = spec("capabilities={name: GOOD.capabilities[name] for name in ('loss', 'generate')}")
    found = run("--adapter", named, "-k", "denoising")
    assert found.result.ret == 1
    assert verdicts(found) == {
        required.id: {"FAIL" if required.id == "denoising/sampler" else "BLOCKED"} for required in OURS
    }
    assert "decline it under the spec's capabilities" in found.text


def test_the_forwards_of_every_kind_are_counted(boot: Any) -> None:
    from conformance.judge import Evidence

    (required,) = [required for required in OURS if required.id == "denoising/forwards"]
    evidence = Evidence()
    assert list(required.check(boot, evidence)) == []
    # Two blocks of three masks and one of two, one token a step: once, and again with the prompt's first block kept.
    counted = evidence.facts["forwards"]
    assert {kind: counted[kind] for kind in ("prefix", "commit")} == {"prefix": 1, "commit": 3}
    assert counted["denoise"] > 2 * 8


def test_a_sampler_that_does_not_call_what_it_is_given_is_not_judged_by_itself(boot: Any) -> None:
    sample, own = boot.spec.sampler.sample, boot.bridge
    let(boot, sample=lambda bridge, prompt, **options: sample(own, prompt, **options))
    assert [(finding.code, finding.at) for finding in findings(boot, "native")] == [("not-native", "tokens")]


def test_options_with_a_cache_cannot_be_left_out(boot: Any) -> None:
    let(boot, cached=None)
    assert [(finding.code, finding.at) for finding in findings(boot, "kv-cache")] == [("undeclared", "cached")]
    boot.spec = replace(boot.spec, cache=None)
    assert findings(boot, "kv-cache") == []


@pytest.mark.parametrize("name", [required.id.partition("/")[2] for required in OURS[1:]])
def test_a_sampler_that_tells_nothing_passes_nothing_but_its_text(boot: Any, name: str) -> None:
    from conformance.pair import SubjectRaised

    sample = boot.spec.sampler.sample
    let(boot, sample=lambda bridge, prompt, observer=None, **options: sample(bridge, prompt, **options))
    assert findings(boot, "sampler") == []
    # Of several prompts each is judged, whatever the others do; elsewhere nothing is left to judge.
    try:
        said = [finding.got for finding in findings(boot, name)]
    except SubjectRaised as error:
        said = [str(error)]
    assert said
    assert all(re.search(r"told of no step, and ran \d+ forwards", text) for text in said)


def test_a_sampler_that_may_revise_is_held_to_the_rest(boot: Any) -> None:
    from conformance.mutants import mutants

    mutants()["denoising/draws-again-what-was-drawn"].apply(boot)
    assert {finding.at for finding in findings(boot, "masks")} == {"outcome.canvas"}
    let(boot, absorbing=False)
    # What it told as the canvas is not where the next step begins.
    assert {finding.at for finding in findings(boot, "masks")} == {"step.canvas"}


def test_the_first_block_of_a_long_prompt_is_not_denoised(boot: Any) -> None:
    from conformance.checks.denoising import runs

    given = runs.drawn(boot, length=7)
    run = runs.watched(boot, given, length=9)
    assert {seen.step.block for seen in run.steps} == {2}
    assert [seen.step.step for seen in run.steps] == [0, 1]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ValueError("length: got 24, want at most 21"), []),
        (ValueError("got 24, want at most 21"), [("unclear-error", "length")]),
        (RuntimeError("length 24 and 21 must match"), [("unclear-error", "length")]),
    ],
)
def test_who_declines_texts_beyond_the_context_refuses_them_by_the_length(boot: Any, error: Any, found: Any) -> None:
    inner = boot.spec.sampler.sample

    def sample(bridge: Any, prompt: Any, **options: Any) -> Any:
        if options["length"] > 21:
            raise error
        return inner(bridge, prompt, **options)

    let(boot, open_ended=False, sample=sample)
    assert [(finding.code, finding.at) for finding in findings(boot, "beyond-context")] == found


def test_where_no_token_ends_a_text_nothing_is_said_of_it(boot: Any) -> None:
    from conformance.judge import Evidence

    let(boot, ending=None)
    (required,) = [required for required in OURS if required.id == "denoising/ending"]
    evidence = Evidence()
    assert list(required.check(boot, evidence)) == []
    assert evidence.refused
