"""The suite as pytest nodes: families as modules, cases as functions, with ids that no folder changes."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .checkpoint import CheckpointError
from .finding import Outcome, Verdict
from .request import Case
from .requirement import FAMILIES, Level, module_of

if TYPE_CHECKING:
    from .judge import Tools

Judging = Callable[[Case, "Tools"], Outcome]


class Unmet(Exception):
    """A requirement is not met; the outcome holds the findings."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(*(finding.line() for finding in outcome.findings[:1]))
        self.outcome = outcome


class SuiteFault(Exception):
    """A check broke down by itself; nothing is said about the adapter."""


class Suite(pytest.Collector):
    """The root of all families; the plugin adds it to a session next to the user's own tests."""

    cases: list[Case]
    judging: Judging

    def collect(self) -> Iterator[pytest.Collector]:
        """Every family; those that were switched off are deselected later, so that syrupy keeps their files."""
        self._lend_fixtures()
        for family in FAMILIES:
            name = module_of(family)
            path = Path(importlib.import_module(name).__file__ or name)
            node = Family.from_parent(self, path=path, name=family, nodeid=f"conformance.{family}")
            node.cases = [case for case in self.cases if case.requirement.family == family]
            node.judging = self.judging
            yield node

    def _lend_fixtures(self) -> None:
        """Make `snapshot` and `benchmark` those of their plugins; a user's conftest may have others of these names."""
        for plugin, name in (("syrupy", "snapshot"), ("benchmark", "benchmark")):
            module = self.config.pluginmanager.get_plugin(plugin)
            if module is not None:
                pytest.register_fixture(name=name, func=inspect.unwrap(getattr(module, name)), node=self)


class Family(pytest.Module):
    """One family of checks, collected from the registry whatever the user's naming conventions are."""

    cases: list[Case]
    judging: Judging

    def _getobj(self) -> Any:
        return importlib.import_module(module_of(self.name))

    def collect(self) -> Iterator[pytest.Item]:
        """One item per case."""
        for case in self.cases:
            check = case.requirement.check.__name__
            signature = self._signature(case.requirement.parameters)
            item = CaseItem.from_parent(self, name=f"{check}[{case.parameters}]", callobj=signature)
            item.case, item.judging = case, self.judging
            item.user_properties += case.properties()
            for mark in (case.requirement.family, case.requirement.level.lower()):
                item.add_marker(mark)
            if "benchmark" in item.fixturenames:
                from .timing import clock

                item.add_marker(pytest.mark.benchmark(timer=clock))
                # Where nothing could be timed, the verdict says why.
                item.add_marker(pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all"))
            yield item

    def _signature(self, parameters: Container[str]) -> Callable[..., None]:
        """A function that asks pytest for the fixtures behind what a check is lent."""
        if "snapshot" in parameters:
            return lambda snapshot: None
        # Where pytest-benchmark is off, as under xdist, the pairs are timed directly; it warns when lent for nothing.
        off = hasattr(self.config, "workerinput") or self.config.getoption("benchmark_disable", default=True)
        if "stopwatch" in parameters and not off:
            return lambda benchmark: None
        return lambda: None


class CaseItem(pytest.Function):
    """One case; its failure is shown as findings, not as a traceback."""

    case: Case
    judging: Judging
    outcome: Outcome | None = None
    seconds = 0.0

    @property
    def id(self) -> Any:
        """The structured id of pytest 9.2, with the brackets apart, as `--lf` and `--sw` read it from their cache."""
        return type(super().id).parse(self.nodeid)

    def runtest(self) -> None:
        """Judge the case and say so in pytest's words."""
        tools = _lent(self.funcargs, renew=self.config.getoption("baseline_update", default=False))
        started = time.perf_counter()
        self.outcome = self.judging(self.case, tools)
        self.seconds = time.perf_counter() - started
        self.user_properties.append(("verdict", str(self.outcome.verdict)))
        self.user_properties += [("because", why) for why in dict.fromkeys(why for why, _ in self.outcome.declared)]
        _tell(self.outcome, must=self.must)

    @property
    def family(self) -> str:
        """The family of its requirement."""
        return self.case.requirement.family

    @property
    def must(self) -> bool:
        """Whether the requirement decides the verdict of a run."""
        return self.case.requirement.level is Level.MUST

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the check is written, under the name of the case."""
        code = self.case.requirement.check.__code__
        return Path(code.co_filename), code.co_firstlineno - 1, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """Every finding with its detail, then the sentence that is not met."""
        if isinstance(excinfo.value, SuiteFault | CheckpointError):
            return str(excinfo.value)
        if not isinstance(excinfo.value, Unmet):
            return super().repr_failure(excinfo)
        lines: list[str] = []
        for finding in excinfo.value.outcome.findings:
            lines += [finding.line(), *(f"    {line}" for line in finding.detail.splitlines())]
        return "\n".join([*lines, "", self.case.requirement.sentence])


def _lent(fixtures: Mapping[str, Any], *, renew: bool) -> Tools:
    """Tools made of the fixtures that an item got."""
    from .judge import Tools
    from .snapshots import reader
    from .timing import recorded

    snapshot, benchmark = fixtures.get("snapshot"), fixtures.get("benchmark")
    return Tools(
        snapshot=None if snapshot is None else reader(snapshot),
        stopwatch=recorded(benchmark) if benchmark is not None and benchmark.enabled else None,
        renew=renew,
    )


def _tell(outcome: Outcome, *, must: bool) -> None:
    """A verdict in pytest's words; a SHOULD that is not met is counted and no failure."""
    match outcome.verdict:
        case Verdict.FAIL if not outcome.red(must=must):
            pytest.xfail(f"SHOULD is not met: {outcome.findings[0].line()}")
        case Verdict.FAIL:
            raise Unmet(outcome)
        case Verdict.ERROR:
            raise SuiteFault(f"{outcome.cause}\n{outcome.trace}")
        case Verdict.BLOCKED:
            pytest.skip(outcome.cause)
        case Verdict.DEVIATION:
            pytest.xfail("; ".join(dict.fromkeys(why for why, _ in outcome.declared)))
