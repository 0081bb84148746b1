"""No page has a block that nobody runs: each is run by a test that is named here, or stands in a short list."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from fences import PAGES, ROOT, SHOWN, Block, blocks

RUN: dict[str, dict[str, str]] = {
    "README.md": {
        "python 1": "test_docs.py::test_what_the_readme_does_with_a_sampler_that_a_model_brings_along",
        "python 2": "test_docs.py::test_what_the_readme_does_with_the_complete_adapter",
        "python 3": "test_docs.py::test_the_spec_of_the_readme_is_one_and_is_booted",
        "python 4": "test_verification.py::test_it_says_what_the_command_line_says_and_leaves_no_trace",
    },
    "CONTRIBUTING.md": {"python": "test_guides.py::test_what_contributors_are_shown_stands_in_the_code"},
    "docs/architecture.md": {"python": "test_guides.py::test_the_way_of_a_requirement_is_what_the_page_prints"},
    "docs/ci.md": {
        "sh 1": "test_gate_input.py::test_the_commands_of_the_page_hold_the_gate",
        "sh 2": "test_session.py::test_a_complete_run_has_a_verdict",
        "sh 3": "test_shards.py::test_the_page_plans_every_adapter_in_two_environments",
        "sh 4": "test_joining.py::test_the_page_merges_what_lies_there",
        "sh 5": "test_shards.py::test_the_page_plans_real_weights",
        "sh 6": "test_commands_reports.py::test_the_commands_of_the_page_show_a_run_and_what_it_changes",
        "sh 7": "test_commands_reports.py::test_the_commands_of_the_page_show_a_run_and_what_it_changes",
    },
    "docs/findings.md": {"python": "test_findings.py::test_what_a_block_prints_stands_below_it"},
    "docs/library.md": {"python": "test_library.py::test_every_block_prints_what_stands_below_it"},
    "docs/new-adapter.md": {
        "python": "test_new_adapter.py::test_an_empty_folder_and_the_page_make_an_adapter_that_conforms",
        "sh": "test_new_adapter.py::test_an_empty_folder_and_the_page_make_an_adapter_that_conforms",
    },
    "docs/sweep.md": {"python": "test_sweep.py::ran"},
}
"""By page: a block by language and number, or all of a language, and the test or fixture that runs it."""

ELSEWHERE: dict[str, dict[str, str]] = {
    "README.md": {
        "sh 1": "makes an environment and installs torch, which takes minutes: the first command of `.ci/run`",
        "sh 2": "the same for developers, and then runs all tests, this one too: the last command of `.ci/run`",
    },
}
"""Blocks that no test runs, with the reason and the place where they run; `test_docs.py` finds them there."""

RUNNABLE = [each for page in PAGES for each in blocks(page) if each.language not in SHOWN]


def entry(table: dict[str, dict[str, str]], each: Block) -> str | None:
    """What a table says of a block."""
    of_page = table.get(each.page, {})
    return of_page.get(f"{each.language} {each.number}", of_page.get(each.language))


def test_every_block_is_run_or_says_why_not() -> None:
    assert [str(each) for each in RUNNABLE if not entry(RUN, each) and not entry(ELSEWHERE, each)] == []
    assert [str(each) for each in RUNNABLE if entry(RUN, each) and entry(ELSEWHERE, each)] == []


def test_no_entry_outlives_its_block() -> None:
    there = {(each.page, key) for each in RUNNABLE for key in (each.language, f"{each.language} {each.number}")}
    named = [(page, key) for table in (RUN, ELSEWHERE) for page, of_page in table.items() for key in of_page]
    assert [each for each in named if each not in there] == []


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("test", sorted({test for of_page in RUN.values() for test in of_page.values()}))
def test_who_runs_it_is_there_and_is_never_skipped(test: str) -> None:
    file, _, name = test.partition("::")
    found = functions(ROOT / "tests" / file)
    assert name in found
    marks = [ast.unparse(mark) for mark in found[name].decorator_list]
    assert [mark for mark in marks if "skip" in mark or "xfail" in mark] == []
    if not name.startswith("test_"):
        users = [each for each in found.values() if name in {argument.arg for argument in each.args.args}]
        assert any(user.name.startswith("test_") for user in users)


def test_the_list_of_what_is_not_run_here_is_short() -> None:
    assert sum(map(len, ELSEWHERE.values())) <= 3


def test_blocks_are_found_as_a_reader_finds_them() -> None:
    """A fence that is indented or opened twice would hide a block from all of the above."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(blocks(page)), page


def test_a_console_script_is_what_the_pages_call() -> None:
    """`conformance ...` on a page is the command that the package installs."""
    told = subprocess.run([sys.executable, "-m", "conformance", "--help"], capture_output=True, text=True, check=True)
    from conformance.commands import COMMANDS

    assert [name for name in COMMANDS if name not in told.stdout] == []
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"conformance": "conformance.commands:main"}
