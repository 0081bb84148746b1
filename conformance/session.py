"""One pytest session that judges adapters: it adds the cases, runs the judges and closes the expected set."""

from __future__ import annotations

import difflib
import gc
import re
import warnings
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import baselines
from .collection import CaseItem, Suite
from .finding import Outcome, Verdict
from .offline import offline
from .report import document, terminal
from .request import Case, Request, RequestError, make
from .requirement import FAMILIES, Level, module_of
from .scheduling import ByAdapter

if TYPE_CHECKING:
    from .judge import Judge, Tools
    from .spec import AdapterSpec

NODE = re.compile(rf"[./]*(?P<id>conformance\.({'|'.join(FAMILIES)})(::.*)?)")
"""A case's node id, as pytest prints it in any folder."""

GIVEN, BOOKS = "conformance-request", "conformance-books"
"""Plugin names under which `verify` hands a request over instead of a command line, and finds what came of it."""

RUN, XDIST = "conformance-run", "conformance-xdist"
OWN = (RUN, XDIST, BOOKS)
"""Plugins that a run is made of."""

SETTLED = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED}
"""Exit statuses of a session whose collection ended well."""


def start(config: pytest.Config) -> None:
    """Validate the request and register the run; pytest.UsageError with one line when it cannot start."""
    option = config.getoption
    worker = hasattr(config, "workerinput")
    resources = ExitStack()
    config.add_cleanup(resources.close)
    resources.enter_context(offline())
    given = config.pluginmanager.get_plugin(GIVEN)
    try:
        request = (
            given.request
            if given
            else make(
                option("adapter"),
                checkpoint_name=option("checkpoint"),
                trust=option("trust_remote_code"),
                # Workers start while the controller may be writing; only it looks at files.
                report=None if worker else option("conform_report"),
                deviations=None if worker else option("write_deviations"),
                complete=option("complete"),
                renew=option("baseline_update"),
            )
        )
    except RequestError as error:
        raise pytest.UsageError(str(error)) from None
    if not config.pluginmanager.hasplugin("syrupy"):
        raise pytest.UsageError("--adapter: snapshots need the plugin syrupy; add -p syrupy, or drop -p no:syrupy")
    _stay(config)
    _refuse_update_of_installed(config, request)
    _check_baselines(request)
    for family in FAMILIES:
        config.pluginmanager.import_plugin(module_of(family))
        config.addinivalue_line("markers", f"{family}: requirements of the family {family}")
    for name in OWN:
        if config.pluginmanager.is_blocked(name):
            raise pytest.UsageError(f"-p no:{name}: without it nothing is judged or told; drop --adapter instead")
    if all(config.pluginmanager.is_blocked(module_of(family)) for family in FAMILIES):
        raise pytest.UsageError("--adapter: every family of checks is switched off with -p no:; leave one on")
    for level in Level:
        config.addinivalue_line("markers", f"{level.lower()}: requirements of level {level}")
    # Its table would come between a reader and the verdict; --benchmark-json and -v still show it.
    config.option.benchmark_quiet = True
    ids = _take_ids(config, request)
    _share_snapshot_folders(request)
    config.pluginmanager.register(Run(config, request, ids), RUN)
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(ByAdapter(request), XDIST)
    if not worker:
        config.pluginmanager.register(Books(config, request), BOOKS)


def _stay(config: pytest.Config) -> None:
    """Keep the root where pytest was started, which takes the folder behind `--checkpoint` for a place of tests.

    It might root itself there, write its cache into the model and name every case by a path from elsewhere.
    """
    if config.getoption("checkpoint") and config.inipath is None and not config.getoption("rootdir"):
        config._rootpath = config.invocation_params.dir


def _take_ids(config: pytest.Config, request: Request) -> list[str]:
    """Node ids of cases among the arguments, taken out, because no file stands behind them.

    Without other arguments nothing else is collected: `--adapter` alone judges adapters, from any folder.
    """
    ids = [found["id"] for found in map(NODE.fullmatch, config.args) if found]
    rest = [name for name in config.args if not NODE.fullmatch(name)]
    config.args[:] = rest if config.args_source is pytest.Config.ArgsSource.ARGS else []
    nodes = [case.node for case in request.cases()]
    for id in ids:
        if not any(node.startswith(id) for node in nodes):
            near = difflib.get_close_matches(id, nodes, n=1, cutoff=0.8)
            hint = f"did you mean {near[0]}?" if near else "list the cases with --collect-only -q"
            raise pytest.UsageError(f"{id}: no such case; {hint}")
    return ids


def _share_snapshot_folders(request: Request) -> None:
    from .snapshots import TextFiles

    TextFiles.folders = {case.node: case.spec.snapshots for case in request.cases()}
    TextFiles.known = {spec.snapshots: frozenset(request.snapshots(spec)) for spec in request.specs}


def _refuse_update_of_installed(config: pytest.Config, request: Request) -> None:
    for name, what in (("--snapshot-update", "snapshots"), ("--baseline-update", "baselines")):
        asked = config.getoption("update_snapshots" if what == "snapshots" else "baseline_update", default=False)
        for spec in request.specs if asked else ():
            if "site-packages" in spec.folder.parts:
                raise pytest.UsageError(
                    f"{name}: the {what} of {spec.name} are part of an installed package; update a checkout"
                )


def _check_baselines(request: Request) -> None:
    """What cannot be read is said before anything is timed."""
    for spec in request.specs:
        try:
            baselines.read(baselines.path_of(spec))
        except baselines.BaselineError as error:
            raise pytest.UsageError(str(error)) from None


class Run:
    """What every process of a run does: collect the cases and judge them."""

    def __init__(self, config: pytest.Config, request: Request, ids: list[str]) -> None:
        self.config = config
        self.request = request
        self.ids = ids
        self.judges: dict[str, Judge] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Append the cases, adapter after adapter, before anything deselects."""
        suite = Suite.from_parent(session, name="conformance", nodeid="conformance")
        suite.cases, suite.judging = list(self.request.cases()), self.judge
        order = {case.node: place for place, case in enumerate(suite.cases)}
        items += sorted(session.genitems(suite), key=lambda item: order[str(item.nodeid)])

    @pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
    def pytest_select_ids(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out families that `-p no:` names and, where ids or the start of ids were given, all other cases."""
        off = {family for family in FAMILIES if config.pluginmanager.is_blocked(module_of(family))}
        ids = tuple(self.ids) or ("",)
        cases = [item for item in items if isinstance(item, CaseItem)]
        out = {i for i in cases if i.case.requirement.family in off or not i.case.node.startswith(ids)}
        config.hook.pytest_deselected(items=list(out))
        items[:] = [item for item in items if item not in out]

    def judge(self, case: Case, tools: Tools) -> Outcome:
        """The outcome of a case; the first one boots the adapter."""
        name = case.spec.name
        with warnings.catch_warnings():
            # Remote code and the libraries below it deprecate things; that is no news about the adapter.
            warnings.simplefilter("ignore", DeprecationWarning)
            if name not in self.judges:
                self.judges[name] = self._start(case.spec)
            return self.judges[name].verdict(case.requirement, case.layout, tools)

    def _start(self, spec: AdapterSpec) -> Judge:
        import torch

        from . import checkpoint
        from .judge import Judge
        from .subject import Boot

        source, threads = self.request.sources[spec.name], torch.get_num_threads()
        if (source.miniature or hasattr(self.config, "workerinput")) and threads > 1:
            # Pools of threads that wait for one another on busy cores are up to fifty times slower than one thread.
            torch.set_num_threads(1)
            self.config.add_cleanup(lambda: torch.set_num_threads(threads))
        self._freeze()
        folder = checkpoint.materialise(source.folder, spec) if source.miniature else source.folder
        return Judge(Boot(spec, folder, source.trusted), self.request.ledgers[spec.name], self.request.registry)

    def _freeze(self) -> None:
        """Leave what the libraries hold, 400,000 objects, out of every garbage collection to come."""
        from transformer_lens.model_bridge import TransformerBridge

        _ = TransformerBridge
        if gc.get_freeze_count():
            return
        gc.freeze()
        if self.config.pluginmanager.hasplugin(GIVEN):
            # Someone else's process; any other ends with the run, and ends sooner.
            self.config.add_cleanup(gc.unfreeze)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send outcome and measurements along with the report; they cross process borders with it."""
        report = yield
        if isinstance(item, CaseItem) and report.when == "call":
            ended = call.excinfo.exconly() if call.excinfo else "the case ended before it was judged"
            outcome = item.outcome or Outcome(Verdict.ERROR, cause=ended)
            report.conformance = {  # type: ignore[attr-defined]
                "node": item.case.node,
                "outcome": outcome.as_json(),
                "red": outcome.red(must=item.must),
                "measurements": {**outcome.measurements, "seconds": round(item.seconds, 4)},
            }
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """A fault of the suite is an error, not a failure of the adapter."""
        told = getattr(report, "conformance", None)
        if told is not None and report.when == "call" and told["outcome"]["verdict"] == Verdict.ERROR:
            return "error", "E", "ERROR"
        return None


class Books:
    """What the main process keeps: which cases were expected, selected and reported, and what that adds up to."""

    def __init__(self, config: pytest.Config, request: Request) -> None:
        self.config = config
        self.request = request
        self.expected = {case.node: case for case in request.cases()}
        self.selected: set[str] | None = None
        self.told: dict[str, dict[str, Any]] = {}
        self.document: dict[str, Any] = {}
        self.written: list[Path] = []
        self.unwritten: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers: what is left after everything deselected."""
        if session.items or self.selected is None:
            self._select(str(item.nodeid) for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """With workers: what each of them will run."""
        self._select(ids)

    def _select(self, ids: Any) -> None:
        self.selected = (self.selected or set()) | (set(ids) & self.expected.keys())

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note the outcome of a case."""
        told = getattr(report, "conformance", None)
        if told is not None:
            self.told[told["node"]] = told

    @property
    def state(self) -> str:
        """COMPLETE, PARTIAL (the user narrowed the run) or INCOMPLETE (selected cases were never reported)."""
        if self.selected is None or self.selected - self.told.keys():
            return "INCOMPLETE"
        return "COMPLETE" if self.selected == self.expected.keys() else "PARTIAL"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Settle the exit status and write what was asked for."""
        if self.config.option.collectonly or not (self.selected or session.exitstatus in SETTLED):
            return
        if self.state != "COMPLETE":
            # Whoever looks at a part asks for no tidying up: syrupy deletes no file.
            self.config.option.no_cleanup = True
        self.document = document.build(self.request, self.expected, self.told, self.state)
        if self.request.report is not None:
            self._write(self.request.report, document.text_of(self.document))
        if self.request.deviations is not None:
            self._write(self.request.deviations, document.deviations(self.document))
        if session.exitstatus == pytest.ExitCode.OK and self._red():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write(self, path: Path, text: str) -> None:
        try:
            document.write_text(path, text)
            self.written.append(path)
        except OSError as error:
            self.unwritten.append(f"ERROR: {path}: not written, what stood there still does: {error.strerror}")

    def _red(self) -> bool:
        """What pytest itself does not count as a failure, but a judge must."""
        unmet = any(told["red"] for told in self.told.values())
        narrowed = self.state == "PARTIAL" and self.request.complete
        return not self.selected or self.state == "INCOMPLETE" or narrowed or unmet or bool(self.unwritten)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The verdict, on one screen."""
        if self.document:
            terminal.show(terminalreporter, self.document, self.written)
        for line in self.unwritten:
            terminalreporter.line(line, red=True)
