"""The plugin as a citizen of pytest: ids, selection, other people's settings, and silence when it is not asked."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from conformance import request
from conformance.request import Case

OWN = "def test_own():\n    assert True\n"


@pytest.fixture(scope="module")
def cases(warm: None) -> dict[str, Case]:
    """What a run of bd3lm is made of, by node id."""
    return {case.node: case for case in request.make(["bd3lm"]).cases()}


def listed(text: str) -> list[str]:
    """Node ids as `--collect-only -q` prints them, and `-v` at the start of a line."""
    return [line.split(" ")[0] for line in text.splitlines() if re.match(r"\S+::", line)]


@pytest.fixture
def collect(pytester: pytest.Pytester) -> Callable[..., list[str]]:
    """`collect("-k", "fires")`: the ids of what would run."""

    def collect(*arguments: str) -> list[str]:
        return listed(
            pytester.runpytest_inprocess("--adapter", "bd3lm", "--collect-only", "-q", *arguments).stdout.str()
        )

    return collect


# Ids and selection.


def test_ids_are_those_of_the_cases_in_any_folder(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, collect: Callable, cases: dict[str, Case]
) -> None:
    here = collect()
    assert here == list(cases)
    assert "conformance.hooks::fires[bd3lm-train]" in here
    pytester.makeini("[pytest]")
    monkeypatch.chdir(pytester.mkdir("below"))
    assert collect() == here


SELECTIONS: dict[str, tuple[tuple[str, ...], Callable[[Case], bool]]] = {
    "-k": (("-k", "fires"), lambda case: "fires" in case.node),
    "-k of a layout": (("-k", "train and not hooks"), lambda case: "train" in case.node and "hooks" not in case.node),
    "-m of a family": (("-m", "hooks"), lambda case: case.requirement.family == "hooks"),
    "-m without a family": (("-m", "not cache"), lambda case: case.requirement.family != "cache"),
    "-m of a level": (("-m", "should"), lambda case: case.requirement.level == "SHOULD"),
    "--deselect a family": (
        ("--deselect", "conformance.hooks"),
        lambda case: case.requirement.family != "hooks",
    ),
    "--deselect a case": (
        ("--deselect", "conformance.hooks::fires[bd3lm-train]"),
        lambda case: case.node != "conformance.hooks::fires[bd3lm-train]",
    ),
    "a pasted id": (
        ("conformance.hooks::fires[bd3lm-train]",),
        lambda case: case.node == "conformance.hooks::fires[bd3lm-train]",
    ),
    "an id as it is printed below the root": (
        ("../conformance.hooks::fires[bd3lm-train]",),
        lambda case: case.node == "conformance.hooks::fires[bd3lm-train]",
    ),
    "two ids": (
        ("conformance.mask", "conformance.hooks::fires"),
        lambda case: case.node.startswith(("conformance.mask::", "conformance.hooks::fires[")),
    ),
    "a family switched off": (
        ("-p", "no:conformance.checks.hooks"),
        lambda case: case.requirement.family != "hooks",
    ),
    "without the cache provider": (("-p", "no:cacheprovider"), lambda case: True),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selection(collect: Callable, cases: dict[str, Case], name: str) -> None:
    arguments, chosen = SELECTIONS[name]
    wanted = [node for node, case in cases.items() if chosen(case)]
    assert wanted
    assert collect(*arguments) == wanted


def test_last_failed_and_stepwise_know_the_ids(run: Callable, third_party: Callable) -> None:
    adapter = third_party(DEAF)
    first = run("--adapter", adapter, "-k", "interventions and edits or hooks and fires")
    failed = re.findall(r"^FAILED (\S+)", first.text, re.MULTILINE)
    assert failed == ["conformance.interventions::edits[mine-train]", "conformance.interventions::edits[mine-sample]"]
    again = run("--adapter", adapter, "--lf", "-v")
    assert listed(again.text) == failed
    assert again.result.ret == 1
    stepwise = run("--adapter", adapter, "--sw", "-v", "-k", "interventions and edits or hooks and fires")
    assert stepwise.result.ret == pytest.ExitCode.INTERRUPTED
    again = run("--adapter", adapter, "--sw", "--sw-skip", "-v", "-k", "interventions and edits or hooks and fires")
    assert listed(again.text) == failed


DEAF = """
from transformer_lens.model_bridge.generalized_components import LinearBridge

class Deaf(LinearBridge):
    def forward(self, x, *args, **kwargs):
        out = self.original_component(self.hook_in(x))
        self.hook_out(out)
        return out

class Adapter(Shipped):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.component_mapping["blocks"].submodules["attn"].submodules["o"] = Deaf(name="attn_out")
"""


def test_a_family_that_is_switched_off_loses_no_snapshot(run: Callable) -> None:
    found = run("--adapter", "bd3lm", "-p", "no:conformance.checks.snapshot")
    assert found.result.ret == 0
    assert "unused" not in found.text
    assert found.report["verdicts"]["state"] == "PARTIAL"


def test_the_users_own_tests_run_when_they_are_named(pytester: pytest.Pytester, run: Callable) -> None:
    pytester.makepyfile(test_own=OWN)
    arguments = ("--adapter", "bd3lm", "-k", "own or fires", "-v")
    assert "test_own.py::test_own" not in listed(run(*arguments).text)
    both = run(*arguments, "test_own.py")
    assert both.result.ret == 0
    assert listed(both.text)[0] == "test_own.py::test_own"
    assert "conformance.hooks::fires[bd3lm-train]" in listed(both.text)


def test_a_failure_of_the_users_own_is_not_the_adapters(pytester: pytest.Pytester, run: Callable) -> None:
    pytester.makepyfile(test_own="def test_own():\n    assert False\n")
    found = run("--adapter", "bd3lm", "-k", "own or fires", "test_own.py")
    assert found.result.ret == 1
    (adapter,) = found.report["verdicts"]["adapters"]
    assert "FAIL" not in adapter["summary"]["verdicts"]


# Other people's settings.

SETTINGS = """
[pytest]
strict = true
filterwarnings = ["error"]
python_files = ["spec_*.py"]
python_functions = ["spec_*"]
testpaths = ["elsewhere"]
addopts = ["--import-mode=importlib"]
"""

CONFTEST = """
import pytest

@pytest.fixture(autouse=True)
def around():
    yield

@pytest.fixture(params=[1, 2])
def pair(request):
    raise AssertionError("a fixture of the user stood in for the pair")

@pytest.fixture
def snapshot():
    raise AssertionError("a fixture of the user stood in for syrupy's")

@pytest.fixture
def benchmark():
    raise AssertionError("a fixture of the user stood in for pytest-benchmark's")
"""


def test_strict_settings_and_fixtures_of_the_same_names(pytester: pytest.Pytester) -> None:
    """In a process of its own, where importing torch, transformers and TransformerLens may warn too."""
    (pytester.path / "pytest.toml").write_text(SETTINGS)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(spec_own="def spec_own():\n    pass\n")
    chosen = "spec_own or fires or operators or snapshot or ratio"
    found = pytester.runpytest_subprocess(
        *("spec_own.py", "--adapter", "bd3lm", "-k", chosen, "-v", "--junitxml", "junit.xml")
    )
    assert found.ret == 0
    ids = listed(found.stdout.str())
    assert "spec_own.py::spec_own" in ids
    assert "conformance.snapshot::config[bd3lm]" in ids
    assert "conformance.throughput::ratio[bd3lm]" in ids
    junit = ElementTree.parse(pytester.path / "junit.xml")
    named = {(case.get("classname"), case.get("name")) for case in junit.iter("testcase")}
    assert ("conformance.hooks", "fires[bd3lm-train]") in named
    assert ("spec_own", "spec_own") in named


# Silence.

PROBE = """
import sys

def pytest_unconfigure():
    print("loaded:", *sorted(name for name in sys.modules if name.startswith({prefixes!r})))
"""


@pytest.fixture
def loaded(pytester: pytest.Pytester) -> Callable[..., set[str]]:
    """`loaded(prefixes, *arguments)`: modules of these names that a pytest of its own has imported at its end."""

    def loaded(prefixes: tuple[str, ...], *arguments: str) -> set[str]:
        pytester.makepyfile(probe=PROBE.format(prefixes=prefixes), test_own=OWN)
        found = pytester.runpytest_subprocess("-p", "probe", *arguments)
        assert found.ret == 0
        (line,) = [line for line in found.outlines if line.startswith("loaded:")]
        return set(line.split()[1:])

    return loaded


def test_collecting_imports_no_model_library(loaded: Callable) -> None:
    heavy = ("torch", "transformers", "transformer_lens", "safetensors")
    assert loaded(heavy, "--adapter", "all", "--collect-only") == set()


def test_without_adapter_nothing_but_the_plugin_is_imported(loaded: Callable) -> None:
    assert loaded(("conformance",)) == {"conformance", "conformance.plugin"}


MIXED = """
import pytest

def test_passes(): pass
def test_fails(): assert 0
@pytest.mark.skip
def test_skips(): pass
@pytest.mark.xfail
def test_xfails(): assert 0
@pytest.mark.parametrize("n", [1, 2])
def test_parametrized(n): pass
"""


def test_without_adapter_pytest_is_as_it_was(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MIXED)

    def told(*arguments: str) -> list[str]:
        found = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider", *arguments)
        return [re.sub(r" in [\d.]+s", "", line) for line in found.outlines if not line.startswith("plugins: ")]

    assert told() == told("-p", "no:conformance")
