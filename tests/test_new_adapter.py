"""docs/new-adapter.md, done to the letter: from an empty folder to an adapter that conforms."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conformance import commands
from conformance.spec import AdapterSpec

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "new-adapter.md").read_text(encoding="utf-8")
MOST_LINES, MOST_COLUMNS = 40, 120

ALL_TO_ALL = "the adapter leaves the default, causal, on a model in which every token attends to every other"
ANY_LENGTH = "neither adapter nor model looks at the length; without a mask, tables of angles are built for any"
NEEDLESS_MASK = "prepare_model calls gen_mask whatever cross_attn says, and nothing in such a model reads the mask"
WHOLE_VOCABULARY = "floats are handed on as inputs_embeds, which the patched forward drops; indexed with None, the \
embedding is one text of all tokens"

OF_THIS_MODEL = {
    ("loading/buffers", "backbone.mask", "left-over"): NEEDLESS_MASK,
    ("loading/config-truths", "cfg.attention_dir", "untrue"): ALL_TO_ALL,
    ("loading/wrong-input", "input_ids: floats", "accepted"): WHOLE_VOCABULARY,
    ("loading/wrong-input", "input_ids: too long", "accepted"): ANY_LENGTH,
    ("hooks/native-clean", "backbone.mask", "leaked"): NEEDLESS_MASK,
}
"""Reasons of findings that the same adapter does not give rise to on BD3LM, or for another reason."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


FOLDER, SPEC = blocks("python")
DRAFT, LOOK, FIRST_RUN, LAST_RUN, DEFECT = blocks("sh")


@pytest.fixture
def pytest_in(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], pytest.RunResult]:
    """`pytest_in(command)`: a command of the page, in the folder of this test, which holds nothing at first."""
    assert not list(pytester.path.iterdir())
    monkeypatch.syspath_prepend(pytester.path)

    def run(command: str) -> pytest.RunResult:
        path, name, *arguments = shlex.split(command)
        assert (path, name) == ("PYTHONPATH=.", "pytest")
        return pytester.runpytest_inprocess(*arguments)

    return run


def test_an_empty_folder_and_the_page_make_an_adapter_that_conforms(
    pytest_in: Callable[[str], pytest.RunResult],
) -> None:
    exec(compile(FOLDER, "new-adapter.md", "exec"), {})
    program, *arguments = shlex.split(DRAFT)
    assert program == "conformance"
    assert commands.main(arguments) == 0
    drafted_spec = imported("my_mdlm")
    assert Path("my_mdlm.deviations.toml").exists()

    look = pytest_in(LOOK)
    assert look.ret == pytest.ExitCode.TESTS_FAILED
    look.stdout.no_fnmatch_line("ERROR*")
    text = look.stdout.str()
    assert "PARTIAL" in text
    assert "FAILED conformance.loading::config_truths[my_mdlm]" in text
    assert "FAILED conformance.parity::logits" not in text
    for question in drafted_spec.todo:
        assert f"spec.{question}: unconfirmed" in text

    Path("my_mdlm.py").write_text(SPEC)
    answered(drafted_spec, imported("my_mdlm"))

    first = pytest_in(FIRST_RUN)
    assert first.ret == pytest.ExitCode.TESTS_FAILED
    first.stdout.no_fnmatch_line("ERROR*")
    drafted = tomllib.loads(Path("draft.toml").read_text())["deviation"]
    assert {entry["because"] for entry in drafted} == {"TODO"}
    assert OF_THIS_MODEL.keys() <= {finding_of(entry) for entry in drafted}

    Path("my_mdlm.deviations.toml").write_text(explained(drafted))
    last = pytest_in(LAST_RUN)
    assert last.ret == 0
    assert re.search(r"my_mdlm \(miniature\): (\d+)/\1 MUST .*\n? *CONFORMS", last.stdout.str())
    assert "PARTIAL" not in last.stdout.str()

    defect = pytest_in(DEFECT)
    assert defect.ret == 0
    defect.stdout.fnmatch_lines(["hooks *1/1*"])


def imported(name: str) -> AdapterSpec:
    """The spec in a module as it now stands in this folder."""
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    found: AdapterSpec = importlib.import_module(name).SPEC
    del sys.modules[name]
    return found


def answered(draft: AdapterSpec, spec: AdapterSpec) -> None:
    """What the draft told without asking stays, and all that it asked is answered."""
    for field in ("name", "architecture", "auto_class", "fixture", "points"):
        assert getattr(draft, field) == getattr(spec, field), field
    assert draft.sizes == spec.sizes
    assert draft.truths.items() <= {**spec.truths}.items()
    assert [layout.relation for layout in draft.layouts] == [layout.relation for layout in spec.layouts]
    assert draft.todo
    assert not spec.todo


def finding_of(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return entry["requirement"], entry["at"], entry["finding"]


def explained(drafted: Iterable[Mapping[str, Any]]) -> str:
    """The ledger: every TODO a reason, those of the same adapter's ledger on BD3LM and those of this model."""
    text = (ROOT / "conformance" / "adapters" / "bd3lm.deviations.toml").read_text()
    shipped = {finding_of(entry): entry["because"] for entry in tomllib.loads(text)["deviation"]}
    reasons = shipped | OF_THIS_MODEL
    entries = ({**entry, "because": reasons[finding_of(entry)]} for entry in drafted)
    lines = (f"{name} = {json.dumps(value)}" for entry in entries for name, value in entry.items())
    return "\n".join(f"[[deviation]]\n{line}" if line.startswith("requirement") else line for line in lines)


def test_the_spec_is_forty_lines() -> None:
    written = [line for line in SPEC.splitlines() if line.strip()]
    assert len(written) <= MOST_LINES
    assert max(map(len, written)) <= MOST_COLUMNS


def test_the_spec_is_formatted_as_ours_are() -> None:
    ruff = pytest.importorskip("ruff")
    import subprocess

    command = [ruff.find_ruff_bin(), "format", "--check", "--config", str(ROOT / "pyproject.toml"), "-"]
    assert subprocess.run(command, input=SPEC, text=True, capture_output=True).returncode == 0


def test_every_field_of_the_spec_is_explained_in_this_order() -> None:
    written = re.findall(r"^    (\w+)=", SPEC, flags=re.MULTILINE)
    explained = [name for cell in re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE) for name in words(cell)]
    assert [name for name in explained if name in written] == written


def words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_what_the_page_names_exists() -> None:
    from conformance.requirement import requirements

    paths = re.findall(r"`((?:conformance|tests|docs)/[\w./]+)`", PAGE)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    families = {id.partition("/")[0] for id in requirements()}
    named = re.findall(r"`(\w+/[\w-]+)`", PAGE)
    assert [id for id in named if id.partition("/")[0] in families and id not in requirements()] == []


def test_the_ledger_entry_of_the_page_is_the_one_that_is_declared() -> None:
    (entry,) = tomllib.loads(*blocks("toml"))["deviation"]
    assert finding_of(entry) in OF_THIS_MODEL


def test_the_options_of_the_page_exist(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        commands.main(["new-adapter", "--help"])
    text = capsys.readouterr().out + pytester.runpytest_inprocess("--help").stdout.str()
    options = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert [option for option in sorted(options) if option not in text] == []
