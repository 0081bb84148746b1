"""The sessions that continuous integration is made of, as nox lists them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def listed() -> dict[str, dict[str, Any]]:
    """What an engine gets that asks for the matrix, by session."""
    command = [sys.executable, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py"), "-l", "-t", "legs", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {each["session"]: each for each in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def noxfile() -> Any:
    spec = spec_from_file_location("noxfile", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_cell_of_the_table_is_a_session_of_its_own(listed: dict[str, Any], noxfile: Any) -> None:
    assert len(set(noxfile.CELLS)) == len(noxfile.CELLS) > 4
    assert {f"leg({cell})" for cell in noxfile.CELLS} <= listed.keys()


def test_the_matrix_begins_with_the_pins_and_goes_back_to_the_oldest_that_is_supported(noxfile: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = {needed.name: needed.specifier for needed in map(Requirement, project["dependencies"])}
    oldest = min(map(Version, filter(lambda version: version != "newest", noxfile.TRANSFORMERS)))
    assert str(oldest) in supported["transformers"]
    assert f"{oldest.major}.{oldest.minor - 1}" not in supported["transformers"]
    pinned = noxfile.PINNED
    assert noxfile.CELLS[0] == noxfile.cell(pinned["transformers"], pinned["transformer-lens"])
    assert pinned["torch"] == "2.13.0"


def test_nothing_that_takes_another_version_runs_unless_asked_for(noxfile: Any) -> None:
    import nox

    default = {name for name, session in nox.registry.get().items() if session.default}
    assert default == {"tests", "conformance", "lint"}
