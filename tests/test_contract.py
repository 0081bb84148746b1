"""The registry, and the files made from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
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
    locked = json.loads(path.read_text())
    for id, value in changes.items():
        if value is None:
            del locked[id]
        else:
            locked[id] = {**locked.get(id, {}), **value}
    path.write_text(json.dumps(locked))


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
