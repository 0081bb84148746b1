"""Every check notices a defect that the rest of its family would let pass, and none where there is none."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import kills, ledger, mutants
from conformance.adapters.bd3lm import SPEC
from conformance.adapters.bd3lm_reference import SPEC as WHOLE
from conformance.finding import Verdict
from conformance.kills import Fate, outcomes
from conformance.mutants import Mutant, NoPlace
from conformance.report import proof
from conformance.requirement import FAMILIES, requirements

REGISTRY = requirements()
MUTANTS = mutants.mutants()


@pytest.fixture
def judged(miniature: Path) -> Callable:
    """A judge of an adapter, by the full registry and the ledger that is shipped."""
    from conformance.judge import Boot, Judge

    def judged(spec=SPEC, folder=miniature):
        boot = Boot(spec, folder, trusted=True)
        # Only some machines have a committed baseline.
        boot.__dict__["ratios"] = {}
        return Judge(boot, ledger.load(spec, REGISTRY), REGISTRY)

    return judged


def test_every_requirement_has_a_mutant_and_every_family_six() -> None:
    assert REGISTRY
    assert {mutant.kills for mutant in MUTANTS.values()} == REGISTRY.keys()
    for family in FAMILIES:
        assert sum(mutant.kills.startswith(f"{family}/") for mutant in MUTANTS.values()) >= 6


def test_what_has_no_place_in_the_complete_adapter_is_killed_in_another(judged: Callable) -> None:
    """All others are put into the complete one by `--mutants`, which is red where one survives."""
    from conformance import checkpoint
    from conformance.adapters import dream_repaired, llada_repaired
    from conformance.judge import Boot

    whole, told = judged(WHOLE).boot, []
    repaired = (llada_repaired.SPEC, dream_repaired.SPEC)
    folders = (checkpoint.materialise(checkpoint.fixture_folder(str(spec.fixture)), spec) for spec in repaired)
    others = [judged(), *map(judged, repaired, folders)]
    for mutant in MUTANTS.values():
        try:
            mutant.apply(Boot(WHOLE, whole.folder, trusted=True))
        except NoPlace:
            elsewhere = (kills.kill(judge, mutant) for judge in others)
            told.append(next((kill for kill in elsewhere if kill.fate is not Fate.NO_PLACE), None))
    assert None not in told
    assert {kill.mutant: kill.fate for kill in told if kill.fate is not Fate.KILLED} == {}
    assert 8 < len(told) < 40


def test_a_clean_subject_is_killed_by_none(judged: Callable) -> None:
    judge = judged()
    told = {required.id: outcomes(judge, required) for required in REGISTRY.values()}
    assert sum(map(len, told.values())) == len(told) + sum(required.per_layout for required in REGISTRY.values())
    assert {id for id, found in told.items() for outcome in found if outcome.findings} == set()
    assert {outcome.verdict for found in told.values() for outcome in found} == {
        Verdict.PASS,
        Verdict.DEVIATION,
        Verdict.REFUSED,
    }


def test_a_mutant_has_a_story_and_a_name_of_its_own() -> None:
    assert len({mutant.apply for mutant in MUTANTS.values()}) == len(MUTANTS) > 0
    with pytest.raises(ValueError, match="wants a docstring that tells its story, and a name of its own"):
        mutants.mutant(kills="hooks/fires")(MUTANTS["hooks/advertised-and-dead"].apply)
    with pytest.raises(ValueError, match="wants a docstring"):
        mutants.mutant(kills="hooks/fires")(lambda boot: None)


# What becomes of one.


def made(kills: str, apply: Callable) -> Mutant:
    return Mutant(kills, "A story.", apply)


def nothing(boot) -> None:
    pass


def test_one_that_changes_nothing_survives(judged: Callable) -> None:
    judge = judged()
    for required in ("hooks/order", "gradients/reach"):
        kill = kills.kill(judge, made(required, nothing))
        assert (kill.fate, kill.by, kill.without) == (Fate.SURVIVED, (), ())


def test_what_the_adapter_does_not_keep_proves_nothing(judged: Callable) -> None:
    kill = kills.kill(judged(), made("hooks/fires", nothing))
    assert (kill.fate, kill.cause) == (Fate.MOOT, "hooks/fires is DEVIATION as it is")


def test_what_others_notice_does_not_speak_for_the_one_that_should(judged: Callable) -> None:
    kill = kills.kill(judged(), made("hooks/steady", MUTANTS["hooks/fires-twice"].apply))
    assert kill.fate is Fate.SURVIVED
    assert "hooks/multiplicity" in kill.by


def test_one_that_is_close_to_a_budget_proves_little(judged: Callable) -> None:
    from conformance.mutants.surgery import on_bridge, output

    def slightly(boot) -> None:
        budget = float(next(iter(boot.afresh().pairs.values())).allowed("logits"))
        on_bridge(boot, lambda bridge: output(bridge, lambda logits: logits + 3 * budget))

    kill = kills.kill(judged(), made("parity/logits", slightly))
    assert kill.fate is Fate.ERROR
    assert "budgets off, want 10" in kill.cause


def test_where_it_has_no_place_it_says_what_is_missing(judged: Callable) -> None:
    kill = kills.kill(judged(), MUTANTS["hooks/gate-without-its-half"])
    assert (kill.fate, kill.cause) == (Fate.NO_PLACE, "the adapter has not got a hook at the gate of a branch")


# What they add up to.


def told(mutant: str, kills: str, fate: str, *without: str) -> dict:
    return {"mutant": mutant, "kills": kills, "fate": fate, **({"without": list(without)} if without else {})}


def test_a_requirement_is_proven_by_one_that_the_rest_lets_pass() -> None:
    both = [told("m/a", "f/a", "KILLED", "f/b"), told("m/b", "f/b", "KILLED"), told("m/c", "f/c", "NO PLACE")]
    assert proof.summary(both) == {
        "fates": {"KILLED": 2, "NO PLACE": 1},
        "proven": 1,
        "idle": ["f/a"],
        "untried": ["f/c"],
    }
    assert proof.summary([*both, told("m/d", "f/a", "KILLED")])["idle"] == []
    assert not proof.red(both)
    assert proof.red([*both, told("m/e", "f/a", "SURVIVED")])


# The option.

FIRES_TWICE = "conformance.mutants.hooks::fires_twice[bd3lm]"


def test_mutants_stand_in_report_and_summary(run: Callable) -> None:
    ids = (FIRES_TWICE, "conformance.mutants.hooks::gate_without_its_half[bd3lm]")
    found = run("--adapter", "bd3lm", "--mutants", *ids)
    assert found.result.ret == 0
    (adapter,) = found.report["verdicts"]["adapters"]
    assert [(kill["mutant"], kill["fate"]) for kill in adapter["mutants"]] == [
        ("hooks/gate-without-its-half", "NO PLACE"),
        ("hooks/fires-twice", "KILLED"),
    ]
    assert adapter["mutants"][1]["by"] == ["hooks/multiplicity"]
    assert adapter["summary"]["mutants"] == {
        "fates": {"KILLED": 1, "NO PLACE": 1},
        "proven": 1,
        "idle": [],
        "untried": ["hooks/gated-branches"],
    }
    assert found.report["verdicts"]["state"] == "PARTIAL"
    assert "requirements that saw what the rest of their family let pass: 1" in found.text


def test_a_survivor_is_red(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mutants._MUTANTS, "hooks/nothing", made("hooks/order", nothing))
    found = run("--adapter", "bd3lm", "--mutants", "conformance.mutants.hooks::nothing[bd3lm]")
    assert found.result.ret == 1
    assert "SURVIVED hooks/nothing: hooks/order does not notice it" in found.text


def test_no_mutants_at_all_are_red(run: Callable) -> None:
    assert run("--adapter", "bd3lm", "--mutants", "-m", "snapshot and not mutant").result.ret == 1


def test_a_mutant_that_breaks_is_the_suites_fault(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(boot) -> None:
        raise KeyError("no such module")

    monkeypatch.setitem(mutants._MUTANTS, "hooks/broken", made("hooks/fires", broken))
    found = run("--adapter", "bd3lm", "--mutants", "conformance.mutants.hooks::broken[bd3lm]")
    assert found.result.ret == 1
    assert "ERROR hooks/broken: KeyError: 'no such module'" in found.text


# The page.


def test_the_page_names_guards_of_the_suite_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = Path(__file__).parent
    monkeypatch.syspath_prepend(tests.parent / "ci")
    guards = importlib.import_module("kill_matrix").SUITE.values()
    named = [re.fullmatch(r"`(\w+\.py)::(\w+)`", guard) for guard in guards if "::" in guard]
    assert len(named) > 8
    for found in named:
        assert found
        assert f"def {found[2]}(" in (tests / found[1]).read_text(encoding="utf-8")


def test_a_page_that_is_out_of_date_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "ci")
    matrix = importlib.import_module("kill_matrix")
    kills = {id: told(id, mutant.kills, "KILLED") for id, mutant in MUTANTS.items()}
    columns, incumbent = {"mine": kills}, {"transformer-lens": "4", "adapters": {}}
    text = matrix.page(columns, incumbent)
    assert list(matrix.drift(text, columns)) == []
    kills["hooks/fires-twice"] = told("hooks/fires-twice", "hooks/multiplicity", "KILLED", "hooks/order")
    assert list(matrix.drift(text, columns)) == [
        "kill-matrix.md: hooks/fires-twice on mine: **killed**, the report says **killed** + order; run nox -s mutants"
    ]
    gone = text.replace("| `dropped` | complete |", "| `dropped-since` | complete |")
    lines = list(matrix.drift(gone, {}))
    assert lines == [
        "kill-matrix.md: hooks/dropped is missing; make the page again with nox -s mutants",
        "kill-matrix.md: hooks/dropped-since is no mutant; make the page again with nox -s mutants",
    ]


def test_what_only_a_complete_run_judges_has_mutants_in_no_other() -> None:
    from conformance.request import make

    def placed(**options: bool) -> set[str]:
        return {placed.mutant.id for placed in make(["bd3lm"], mutants=True, **options).placed()}

    assert placed(complete=True) == MUTANTS.keys()
    left_out = {MUTANTS[id].kills for id in MUTANTS.keys() - placed()}
    assert left_out == {required.id for required in REGISTRY.values() if required.run == "--complete"}
