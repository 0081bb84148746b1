"""The states of a run, and the ways in which a green run could lie: each is made to happen, and none is green."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from fences import block

GOOD = "class Adapter(Shipped):\n    pass"
UNTRUE = (
    "class Adapter(Shipped):\n    def __init__(self, cfg):\n        super().__init__(cfg)\n        cfg.n_layers = 7\n"
)


def state(found: Any) -> str:
    return found.report["verdicts"]["state"]


def conforms(found: Any) -> bool | None:
    (adapter,) = found.report["verdicts"]["adapters"]
    return adapter["summary"]["conforms"]


# States.


def test_a_complete_run_has_a_verdict(run: Callable, third_party: Callable, pytester: pytest.Pytester) -> None:
    """The command of docs/ci.md, for a repository with one adapter."""
    module = third_party().partition(":")[0]
    (pytester.mkpydir("mine_pkg") / "adapters.py").write_text(f"from {module} import SPEC\n")
    program, *arguments = shlex.split(block("docs/ci.md", "sh", 2))
    assert program == "pytest"
    found = run(*arguments, timed=True)
    assert found.result.ret == 0
    assert state(found) == "COMPLETE"
    assert conforms(found) is True
    assert "CONFORMS" in found.text


NARROWED = {
    "-k": ("-k", "fires"),
    "-m": ("-m", "mask"),
    "an id": ("conformance.hooks::fires[bd3lm-train]",),
    "-p no:": ("-p", "no:conformance.checks.hooks"),
    "--deselect": ("--deselect", "conformance.loading::opt_in"),
}


@pytest.mark.parametrize("how", NARROWED)
def test_a_narrowed_run_has_no_verdict_and_is_red_when_all_was_asked_for(run: Callable, how: str) -> None:
    found = run("--adapter", "bd3lm", *NARROWED[how])
    assert found.result.ret == 0
    assert state(found) == "PARTIAL"
    assert conforms(found) is None
    # The closing line may be folded.
    assert "PARTIAL, no verdict" in " ".join(found.text.split())
    assert "CONFORMS" not in found.text
    assert run("--adapter", "bd3lm", "--complete", *NARROWED[how]).result.ret == 1


def test_a_run_in_which_no_case_is_left_has_judged_nothing(pytester: pytest.Pytester, run: Callable) -> None:
    found = run("--adapter", "bd3lm", "-k", "nothing_is_called_this")
    assert found.result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "PARTIAL, no verdict" in found.text
    pytester.makepyfile(test_own="def test_own():\n    pass\n")
    found = run("--adapter", "bd3lm", "-k", "test_own", "test_own.py")
    assert found.result.ret == 1
    assert "PARTIAL, no verdict" in found.text
    found = run("--adapter", "bd3lm", "-k", "test_own", "test_own.py", "--complete")
    assert found.result.ret == 1


def test_a_run_that_stops_early_is_incomplete(run: Callable, third_party: Callable) -> None:
    found = run("--adapter", third_party(UNTRUE), "-x")
    assert found.result.ret == 1
    assert state(found) == "INCOMPLETE"
    assert "INCOMPLETE, no verdict" in found.text


LOST = "import os\nclass Adapter(Shipped):\n    def prepare_model(self, model):\n        os._exit(1)\n"


def test_a_worker_that_is_lost_is_red(pytester: pytest.Pytester, third_party: Callable) -> None:
    arguments = ("--adapter", third_party(LOST), "conformance.loading::boots", "-n", "2", "--max-worker-restart", "0")
    found = pytester.runpytest_subprocess(*arguments, "--conform-report", "report.json")
    assert found.ret != 0
    verdicts = json.loads((pytester.path / "report.json").read_text())["verdicts"]
    assert verdicts["state"] == "INCOMPLETE"
    assert verdicts["adapters"][0]["summary"]["conforms"] is None


def test_workers_that_never_start_are_red(run: Callable, third_party: Callable) -> None:
    """The folder of the adapter is on this process's path and not on its workers'."""
    found = run("--adapter", third_party(), "-n", "2", "--max-worker-restart", "0")
    assert found.result.ret != 0
    assert state(found) == "INCOMPLETE"


# Lies.

SKIPS = {
    "a fixture": """
        import pytest

        @pytest.fixture(autouse=True)
        def later():
            pytest.skip("later")
        """,
    "a mark": """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.skip(reason="later"))
        """,
}
COVERS = {
    "an expectation": """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.xfail(strict=False))
        """,
    "a rewritten report": """
        import pytest

        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            report.outcome = "passed"
            return report
        """,
}


@pytest.mark.parametrize("how", SKIPS)
def test_a_skip_is_not_a_pass(pytester: pytest.Pytester, run: Callable, how: str) -> None:
    pytester.makepyfile(liar=SKIPS[how])
    found = run("-p", "liar", "--adapter", "bd3lm", "-k", "fires")
    assert found.result.parseoutcomes().keys() == {"skipped", "deselected"}
    assert found.result.ret == 1
    assert state(found) == "INCOMPLETE"


@pytest.mark.parametrize("how", COVERS)
def test_a_failure_that_pytest_is_not_told_is_red(
    pytester: pytest.Pytester, run: Callable, third_party: Callable, how: str
) -> None:
    pytester.makepyfile(liar=COVERS[how])
    found = run("-p", "liar", "--adapter", third_party(UNTRUE), "-k", "config_truths")
    assert "failed" not in found.result.parseoutcomes()
    assert found.verdicts("loading/config-truths") == {None: "FAIL"}
    assert found.result.ret == 1


BROKEN = "class Adapter(Shipped):\n    def prepare_model(self, model):\n        raise OSError('no such thing')\n"


def test_what_is_blocked_is_not_met(run: Callable, third_party: Callable) -> None:
    """Even where the need that failed was not selected, and pytest sees nothing but skips."""
    adapter = third_party(BROKEN)
    found = run("--adapter", adapter, "-k", "fires")
    assert found.result.parseoutcomes().keys() == {"skipped", "deselected"}
    assert found.result.ret == 1
    assert found.verdicts("hooks/fires") == {"train": "BLOCKED", "sample": "BLOCKED"}
    whole = run("--adapter", adapter, timed=True)
    assert whole.result.ret == 1
    assert state(whole) == "COMPLETE"
    assert conforms(whole) is False
    (judged,) = whole.report["verdicts"]["adapters"]
    verdicts = judged["summary"]["verdicts"]
    assert verdicts["FAIL"] == 1
    assert verdicts["BLOCKED"] == len(judged["results"]) - 1
    assert judged["summary"]["levels"]["MUST"]["met"] == 0
    call = "`raise OSError('no such thing')` in prepare_model, adapter_mine.py, line 8"
    assert f"boot: raised: got OSError: no such thing, by {call}, want a booted bridge" in whole.text


NO_BOOT = """
[[deviation]]
requirement = "loading/boots"
at = "boot"
finding = "raised"
because = "it does not"
"""


def test_what_a_declared_boot_failure_blocks_is_neither_red_nor_met(run: Callable, third_party: Callable) -> None:
    found = run("--adapter", third_party(BROKEN, ledger=lambda text: NO_BOOT), timed=True)
    assert found.result.ret == 0
    assert (state(found), conforms(found)) == ("COMPLETE", False)
    (judged,) = found.report["verdicts"]["adapters"]
    assert judged["summary"]["verdicts"] == {"BLOCKED": len(judged["results"]) - 1, "DEVIATION": 1}
    assert judged["summary"]["levels"]["MUST"]["met"] == 1
    assert "DECLARED loading/boots: boot: raised: got OSError: no such thing" in found.text
    assert "DOES NOT CONFORM" in found.text


DECLINE_LESS = GOOD + "\n\nGOOD = replace(GOOD, capabilities={'loss': GOOD.capabilities['loss']})"


def test_declining_is_a_promise_that_is_checked(run: Callable) -> None:
    found = run("--adapter", "bd3lm", "-k", "generate")
    assert found.verdicts("loading/generate") == {"train": "REFUSED", "sample": "REFUSED"}


def test_what_is_not_declined_must_work(run: Callable, third_party: Callable) -> None:
    found = run("--adapter", third_party(DECLINE_LESS), "-k", "generate")
    assert found.result.ret == 1
    assert set(found.verdicts("loading/generate").values()) == {"FAIL"}
    assert "decline it under the spec's capabilities" in found.text


def without_losses(ledger: str) -> str:
    blocks = ledger.split("[[deviation]]")
    return "[[deviation]]".join(block for block in blocks if "loading/loss" not in block)


def test_declining_what_is_there_is_red(run: Callable, third_party: Callable) -> None:
    """The shipped adapter returns a loss in one layout, and its spec declines losses."""
    found = run("--adapter", third_party(ledger=without_losses), "-k", "loss")
    assert found.result.ret == 1
    assert found.verdicts("loading/loss")["sample"] == "FAIL"
    assert "loss: accepted: got a result, want an error that names 'loss'" in found.text


def versioned(text: str) -> Callable[[str], str]:
    """The ledger with a version range on the entry about `cfg.n_ctx`."""

    def edit(ledger: str) -> str:
        edited = re.sub(r'(at = "cfg.n_ctx"\n)', rf'\1versions = ["{text}"]\n', ledger)
        assert edited != ledger
        return edited

    return edit


def test_an_entry_for_other_versions_declares_nothing(run: Callable, third_party: Callable) -> None:
    found = run("--adapter", third_party(ledger=versioned("transformer-lens<4")), "-k", "config_truths")
    assert found.result.ret == 1
    assert found.verdicts("loading/config-truths") == {None: "FAIL"}
    assert "declared only for transformer-lens<4" in found.text


def test_an_entry_for_these_versions_declares(run: Callable, third_party: Callable) -> None:
    found = run("--adapter", third_party(ledger=versioned("transformer-lens>=4.3")), "-k", "config_truths")
    assert found.result.ret == 0
    assert found.verdicts("loading/config-truths") == {None: "DEVIATION"}


@pytest.mark.parametrize("name", ["conformance-run", "conformance-books", "conformance-xdist"])
def test_no_part_of_a_run_can_be_switched_off(pytester: pytest.Pytester, name: str) -> None:
    result = pytester.runpytest_inprocess("--adapter", "bd3lm", "-p", f"no:{name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: -p no:{name}: without it nothing is judged or told" in result.stderr.str()
