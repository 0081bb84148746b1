"""The registry, and the files made from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance import contract
from conformance.requirement import FAMILIES, MUST, requirement, requirements

ROOT = Path(__file__).parent.parent


def test_the_committed_files_say_what_the_registry_says() -> None:
    assert list(contract.drift(ROOT)) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("CONTRACT.md", "contract.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def relock(folder: Path, **changes: Any) -> None:
    path = folder / "contract.lock"
    whole = json.loads(path.read_text())
    locked = whole["requirements"]
    for id, value in changes.items():
        if value is None:
            del locked[id]
        else:
            locked[id] = {**locked.get(id, {}), **value}
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"mask/relation": None}, "contract.lock: mask/relation is new"),
        ({"mask/gone": {"level": "MUST"}}, "contract.lock: mask/gone is gone from the registry"),
        ({"mask/relation": {"sentence": "0"}}, "contract.lock: mask/relation has another sentence"),
        ({"mask/relation": {"level": "SHOULD"}}, "contract.lock: mask/relation has another level"),
    ],
    ids=["new", "gone", "another sentence", "another level"],
)
def test_a_changed_requirement_is_red_until_the_lock_is_edited(
    copy: Path, changes: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    relock(copy, **changes)
    monkeypatch.chdir(copy)
    assert contract.main(["--check"]) == 1
    assert capsys.readouterr().err.startswith(line)
    assert contract.main([]) == 0
    assert contract.main(["--check"]) == 0


def test_another_budget_is_red_until_the_lock_is_edited(copy: Path) -> None:
    path = copy / "contract.lock"
    path.write_text(path.read_text().replace('"noise": 8', '"noise": 9'))
    told = "contract.lock: the budgets changed; if that is meant, run `python -m conformance.contract`"
    assert list(contract.drift(copy)) == [told]


def test_nothing_is_older_than_the_contract_that_has_it(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = requirements()
    early = replace(known["mask/relation"], since="1.1")
    monkeypatch.setattr(contract, "requirements", lambda: {**known, early.id: early})
    assert "mask/relation: since 1.1, and the contract is version 1; raise that first" in list(contract.drift(copy))


# Releases.


def release(version: str, *new: str, gone: str = "", **parts: Any) -> dict[str, Any]:
    """A contract that follows the one that is committed: its version, new ids with `since`, one that is gone."""
    locked = json.loads((ROOT / "contract.lock").read_text())
    locked["requirements"].pop(gone, None)
    for id, since in (each.split() for each in new):
        locked["requirements"][id] = {"level": "MUST", "since": since, "sentence": "0"}
    return {**locked, "version": version, **parts}


TIGHTER = {"budgets": {"witness": {"noise": 1, "ulps": 1}}}
RELEASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "the same": (release("1"), []),
    "a MUST in a minor": (release("1.1", "mask/new 1.1"), []),
    "a MUST that no minor tells of": (
        release("1", "mask/new 1"),
        [
            "other requirements; that takes a contract after 1, this is 1",
            'mask/new: is new, and says since 1; write since="1"',
        ],
    ),
    "a MUST that claims to be old": (
        release("1.1", "mask/new 1"),
        ['mask/new: is new, and says since 1; write since="1.1"'],
    ),
    "a tighter budget": (release("1", **TIGHTER), ["other budgets; that takes a contract after 1, this is 1"]),
    "a tighter budget in a minor": (release("1.1", **TIGHTER), []),
    "one that is gone in a minor": (
        release("1.1", gone="mask/relation"),
        ["gone: mask/relation; that takes contract 2, this is 1.1"],
    ),
    "one that is gone in a major": (release("2", gone="mask/relation"), []),
    "one that is younger than it was": (
        release("1.1", "mask/relation 1.1"),
        ["mask/relation: says since 1.1, and was there since 1; write that again"],
    ),
    "backwards": (release("0.9"), ["an earlier version; that takes a contract after 1, this is 0.9"]),
}


@pytest.mark.parametrize("what", RELEASES)
def test_what_a_release_may_be(what: str) -> None:
    new, lines = RELEASES[what]
    assert list(contract.unreleasable(release("1"), new)) == lines


def test_a_release_is_held_against_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, page = tmp_path / "before.lock", tmp_path / "page.lock"
    before.write_text(contract.lock())
    assert contract.main(["--against", str(before)]) == 0
    before.write_text(before.read_text().replace('"MUST"', '"SHOULD"', 1))
    page.write_text("[]")
    for path, line in (
        (before, "other requirements; that takes a contract after 1, this is 1"),
        (page, f"{page}: is no contract.lock; take that of the release before"),
        (tmp_path / "none", f"{tmp_path / 'none'}: cannot be read: No such file or directory; name the contract.lock"),
    ):
        assert contract.main(["--against", str(path)]) == 1
        assert capsys.readouterr().err.startswith(line)


def test_an_edited_contract_is_red(copy: Path) -> None:
    path = copy / "CONTRACT.md"
    path.write_text(path.read_text().replace("MUST", "should", 1))
    assert list(contract.drift(copy)) == [
        "CONTRACT.md: not what the registry says; run `python -m conformance.contract`"
    ]


def test_there_are_enough_requirements_in_every_family() -> None:
    counts = {family: sum(r.family == family for r in requirements().values()) for family in FAMILIES}
    assert sum(counts.values()) >= 25
    assert min(counts.values()) >= 3


def test_every_requirement_says_why() -> None:
    assert [r.id for r in requirements().values() if not r.reason] == []


def no_level(boot: Any) -> Iterator[Any]:
    """Something is the case."""
    yield from ()


def fine(boot: Any) -> Iterator[Any]:
    """Something MUST be the case."""
    yield from ()


@pytest.mark.parametrize(
    ("id", "check", "message"),
    [
        ("hooks/no-level", no_level, "hooks/no-level: the docstring's first paragraph must contain the word MUST"),
        ("hook/fine", fine, "hook/fine: ids are unique and start with one of loading, hooks"),
        ("hooks/other", fine, "hooks/other: its check must be named other"),
    ],
)
def test_a_requirement_that_is_not_one_is_refused(id: str, check: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        requirement(id, level=MUST)(check)


def test_an_id_is_taken_once() -> None:
    taken = next(iter(requirements().values()))
    with pytest.raises(ValueError, match="ids are unique"):
        requirement(taken.id, level=taken.level)(taken.check)


def test_no_adapter_is_named_in_a_check() -> None:
    for path in (ROOT / "conformance" / "checks").rglob("*.py"):
        text = path.read_text().lower()
        assert not [name for name in ("bd3lm", "llada", "dream", "gidd") if name in text], path
