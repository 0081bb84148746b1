"""`conformance.verify`: a run as a function call."""

from __future__ import annotations

import ast
import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fences import block

import conformance


def test_it_says_what_the_command_line_says_and_leaves_no_trace(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = run("--adapter", "bd3lm", timed=True).report["verdicts"]
    capfd.readouterr()
    (tmp_path / "conftest.py").write_text("raise SystemExit('a conftest of the folder ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(block("README.md", "python", 4), "README.md", "exec"), names)
    report = names["report"]
    *text, last = printed.getvalue().splitlines()
    assert "\n".join(text) == str(report)
    assert ast.literal_eval(last) == [r.requirement for r in report.results if r.verdict == "DEVIATION"] != []
    assert report.document["verdicts"] == told
    assert report.conforms
    assert "CONFORMS" in str(report)
    assert {result.verdict for result in report.results} == {"PASS", "REFUSED", "DEVIATION"}
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["conftest.py"]


def test_a_request_that_cannot_be_carried_out_is_an_error_of_one_line() -> None:
    from conformance.request import RequestError

    with pytest.raises(RequestError, match=r"unknown adapter 'bd3lmm'; did you mean bd3lm\?"):
        conformance.verify("bd3lmm")


def test_a_spec_is_judged_as_an_object() -> None:
    from dataclasses import replace

    from conformance.adapters.bd3lm import SPEC

    report = conformance.verify(replace(SPEC, ceilings={"forward": 0.01}))
    assert not report.conforms
    assert [r.requirement for r in report.results if r.verdict == "FAIL"] == ["throughput/ratio"]


def test_the_package_is_light_until_something_heavy_is_asked_for() -> None:
    heavy = "print(sorted({'torch', 'transformers', 'transformer_lens', 'pytest'} & set(sys.modules)))"
    script = f"import sys, conformance; conformance.AdapterSpec; {heavy}"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    assert [name for name in conformance.__all__ if not callable(getattr(conformance, name))] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = conformance.nothing
