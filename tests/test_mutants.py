"""Every check notices a defect that the rest of its family would let pass, and none where there is none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.adapters.bd3lm_reference import SPEC as WHOLE
from conformance.finding import Outcome, Verdict
from conformance.mutants import mutants, noticed, without
from conformance.requirement import Requirement, requirements

REGISTRY = requirements()
MUTANTS = mutants()
FAR = 10
"""How many budgets a defect lies off, at least."""


def outcomes(judge, required: Requirement) -> list[Outcome]:
    """One requirement in all its layouts, with the committed snapshots at hand."""
    from conformance.judge import Tools
    from conformance.snapshots import differences

    found, spec = [], judge.boot.spec
    for layout in judge.boot.pairs if required.per_layout else [None]:
        case = f"{spec.name}-{layout}" if layout else spec.name
        path = spec.snapshots / f"{required.check.__name__}[{case}].txt"
        found.append(judge.verdict(required, layout, Tools(snapshot=functools.partial(differences, path))))
    return found


@pytest.fixture
def boot(miniature: Path, request: pytest.FixtureRequest):
    """A good adapter; where a mutant needs more than the shipped one has, the complete one."""
    from conformance.judge import Boot

    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name", "")
    whole = bool(name) and (name.startswith("denoising/") or MUTANTS[name].whole)
    boot = Boot(WHOLE if whole else SPEC, miniature, trusted=True)
    # Only some machines have a committed baseline.
    boot.__dict__["ratios"] = {}
    return boot


@pytest.fixture
def judged(boot) -> Callable:
    """A judge of the boot, on the full registry or on less, by the ledger that is shipped."""
    from conformance import ledger
    from conformance.judge import Judge

    return lambda registry: Judge(boot, ledger.load(boot.spec, REGISTRY), registry)


@pytest.mark.parametrize("name", MUTANTS)
def test_noticed_by_its_requirement_and_by_it_alone(name: str, boot, judged: Callable) -> None:
    mutant = MUTANTS[name]
    mutant.apply(boot)

    mine = outcomes(judged(REGISTRY), REGISTRY[mutant.kills])
    assert {outcome.verdict for outcome in mine} <= {*Verdict} - {Verdict.ERROR, Verdict.BLOCKED}
    found = [finding for outcome in mine if outcome.verdict is Verdict.FAIL for finding in noticed(outcome)]
    assert found
    measured = [finding.size / finding.allowed for finding in found if finding.size and finding.allowed]
    assert max(measured, default=FAR) >= FAR, "a defect this close to its budget proves little"

    rest = without(REGISTRY, mutant.kills)
    family = [required for required in rest.values() if required.family == REGISTRY[mutant.kills].family]
    judge = judged(rest)
    others = {required.id: outcomes(judge, required) for required in family}
    assert {
        id: [finding.line() for finding in noticed(outcome)] or outcome.trace
        for id, found in others.items()
        for outcome in found
        if noticed(outcome) or outcome.verdict is Verdict.ERROR
    } == {}


def test_every_requirement_has_a_mutant() -> None:
    assert REGISTRY
    assert {mutant.kills for mutant in MUTANTS.values()} == REGISTRY.keys()


def test_a_clean_subject_is_killed_by_none(judged: Callable) -> None:
    judge = judged(REGISTRY)
    told = {required.id: outcomes(judge, required) for required in REGISTRY.values()}
    assert sum(map(len, told.values())) == len(told) + sum(required.per_layout for required in REGISTRY.values())
    assert {id for id, found in told.items() for outcome in found if outcome.findings} == set()
    assert {outcome.verdict for found in told.values() for outcome in found} == {
        Verdict.PASS,
        Verdict.DEVIATION,
        Verdict.REFUSED,
    }


def test_a_mutant_has_a_story_and_a_name_of_its_own() -> None:
    from conformance.mutants import mutant

    assert len({mutant.apply for mutant in MUTANTS.values()}) == len(MUTANTS) > 0
    with pytest.raises(ValueError, match="wants a docstring that tells its story, and a name of its own"):
        mutant(kills="hooks/fires")(MUTANTS["hooks/advertised-and-dead"].apply)
    with pytest.raises(ValueError, match="wants a docstring"):
        mutant(kills="hooks/fires")(lambda boot: None)
