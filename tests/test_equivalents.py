"""Mutants that change nothing in an adapter: proven in a file that is as strict as a ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import equivalents, kills, ledger
from conformance.adapters.bd3lm import SPEC
from conformance.kills import Fate
from conformance.mutants import Mutant, mutants
from conformance.requirement import requirements

REGISTRY = requirements()
KNOWN = ("hooks/fires-twice", "cache/piles-up")
GOOD = '[[equivalent]]\nmutant = "hooks/fires-twice"\nbecause = "no hook has an effect here"\n'


def test_a_proof_by_its_mutant(tmp_path: Path) -> None:
    path = tmp_path / "mine.equivalents.toml"
    assert equivalents.read(path, KNOWN) == {}
    path.write_text(GOOD)
    assert equivalents.read(path, KNOWN) == {"hooks/fires-twice": "no hook has an effect here"}


BAD = {
    "no toml": ("[[equivalent", "not valid TOML"),
    "another table": ("[[deviation]]\n", "got deviation, want entries that are written as [[equivalent]]"),
    "a field": (GOOD + "becuase = 1\n", "unknown field 'becuase'; did you mean 'because'?"),
    "no proof": (GOOD.replace("because", "# because"), "field 'because' is missing or no text"),
    "to do": (GOOD.replace("no hook", "TODO"), "proves nothing; say why nothing can be noticed"),
    "a mutant": (
        GOOD.replace("twice", "thrice"),
        "unknown mutant 'hooks/fires-thrice'; did you mean 'hooks/fires-twice'?",
    ),
    "twice": (GOOD + GOOD, "entry 2: hooks/fires-twice stands there twice; keep one proof"),
}


@pytest.mark.parametrize("how", BAD)
def test_files_that_cannot_be_trusted(tmp_path: Path, how: str) -> None:
    text, wanted = BAD[how]
    path = tmp_path / "mine.equivalents.toml"
    path.write_text(text)
    with pytest.raises(equivalents.EquivalentError) as told:
        equivalents.read(path, KNOWN)
    assert str(told.value).startswith(str(path))
    assert wanted in str(told.value)
    assert "\n" not in str(told.value)


def test_every_shipped_proof_is_of_a_mutant_that_there_is() -> None:
    files = list(SPEC.folder.glob("*.equivalents.toml"))
    assert files
    assert all(equivalents.read(path, mutants()) for path in files)


@pytest.fixture
def judge(miniature: Path) -> Callable:
    from conformance.judge import Boot, Judge

    return Judge(Boot(SPEC, miniature, trusted=True), ledger.load(SPEC, REGISTRY), REGISTRY)


def test_a_survivor_with_a_proof_is_equivalent_and_one_that_is_noticed_is_not(judge) -> None:
    nothing = Mutant("hooks/order", "A story.", lambda boot: None)
    kill = kills.kill(judge, nothing, "it does nothing")
    assert (kill.fate, kill.cause) == (Fate.EQUIVALENT, "it does nothing")
    kill = kills.kill(judge, mutants()["hooks/names-of-two-moments"], "it does nothing")
    assert (kill.fate, kill.cause) == (Fate.ERROR, "it is KILLED, and no survivor; delete its entry as an equivalent")


def test_what_a_need_has_noticed_leaves_nothing_to_say(judge) -> None:
    dies = Mutant("hooks/order", "A story.", mutants()["hooks/fires-twice"].apply)
    assert kills.rests_on(REGISTRY, "hooks/order", "hooks/multiplicity")
    kill = kills.kill(judge, dies)
    assert (kill.fate, kill.cause) == (Fate.FORESTALLED, "hooks/multiplicity, which it needs, notices it first")
