"""examples/third-party: a package of one's own, with its adapter, spec, oracle, model, ledger and snapshots."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import conformance

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "third-party"


def test_it_conforms(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its sources; `.ci/run` installs it as a wheel and judges it by name from an empty folder."""
    monkeypatch.syspath_prepend(EXAMPLE / "src")
    found = run("--adapter", "haze_bridge.spec:SPEC")
    assert found.result.ret == 0
    (adapter,) = found.report["verdicts"]["adapters"]
    verdicts = {result["verdict"] for result in adapter["results"]}
    assert verdicts == {"PASS", "REFUSED", "DEVIATION"}


def test_its_miniature_is_booted_by_its_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE / "src")
    inputs = conformance.example("haze_bridge.spec:SPEC", "plain")
    rows, length = inputs["input_ids"].shape
    bridge = conformance.boot(adapter="haze_bridge.spec:SPEC")
    assert bridge(inputs.pop("input_ids"), **inputs).shape == (rows, length, bridge.cfg.d_vocab)


def test_its_entry_point_leads_to_its_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE / "src")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    ((name, path),) = project["entry-points"]["conformance.adapters"].items()
    module, _, attribute = path.partition(":")
    spec = getattr(importlib.import_module(module), attribute)
    assert spec.name == name
    assert spec.ledger.is_file()
    assert not spec.todo


def test_the_gate_judges_it_as_a_wheel() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "examples/third-party" in gate
    assert "--adapter haze" in gate
