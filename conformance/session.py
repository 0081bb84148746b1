"""One pytest session that judges adapters: it adds the cases, runs the judges and closes the expected set."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import checkpoint, seal
from .collection import CaseItem, Suite
from .finding import Outcome, Verdict
from .mutant_items import MutantItem, Mutations
from .report import document, terminal
from .request import Case, Placed, Request
from .requirement import FAMILIES, module_of
from .spec import printable

if TYPE_CHECKING:
    from .judge import Judge, Tools
    from .kills import Kill
    from .spec import AdapterSpec

GIVEN = "conformance-request"
"""Plugin name under which `verify` hands a request over instead of a command line."""

RUN, XDIST, BOOKS = "conformance-run", "conformance-xdist", "conformance-books"
"""Names of the plugins that a run is made of; `verify` finds under the last what came of it."""

RARELY = 50_000
"""Objects that are made until garbage is looked for, where bridges are small."""

SETTLED = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED}
"""Exit statuses of a session whose collection ended well."""


class Run:
    """What every process of a run does: collect the cases and judge them, and put mutants in where asked to."""

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
        mutations = Mutations.from_parent(session, name="mutants", nodeid="conformance.mutants")
        mutations.placed, mutations.killing = list(self.request.placed()), self.kill
        items += session.genitems(mutations)

    @pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
    def pytest_select_ids(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out families that `-p no:` names and, where ids or the start of ids were given, all other cases."""
        off = {family for family in FAMILIES if config.pluginmanager.is_blocked(module_of(family))}
        ids = tuple(self.ids) or ("",)
        mine = [item for item in items if isinstance(item, CaseItem | MutantItem)]
        out = {item for item in mine if item.family in off or not item.nodeid.startswith(ids)}
        config.hook.pytest_deselected(items=list(out))
        items[:] = [item for item in items if item not in out]

    def judge(self, case: Case, tools: Tools) -> Outcome:
        """The outcome of a case; the first one boots the adapter."""
        with self._judge(case.spec) as judge:
            return judge.verdict(case.requirement, case.layout, tools)

    def kill(self, placed: Placed) -> Kill:
        """What became of a mutant."""
        from .kills import kill

        with self._judge(placed.spec) as judge:
            return kill(judge, placed.mutant, self.request.equivalents[placed.spec.name].get(placed.mutant.id))

    @contextlib.contextmanager
    def _judge(self, spec: AdapterSpec) -> Iterator[Judge]:
        with warnings.catch_warnings():
            # Remote code and the libraries below it deprecate things; that is no news about the adapter.
            warnings.simplefilter("ignore", DeprecationWarning)
            if spec.name not in self.judges:
                self.judges[spec.name] = self._start(spec)
            yield self.judges[spec.name]

    def _start(self, spec: AdapterSpec) -> Judge:
        import torch

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
        """Leave what the libraries hold, 400,000 objects, out of every garbage collection to come, and have fewer."""
        from transformer_lens.model_bridge import TransformerBridge

        _ = TransformerBridge
        if gc.get_freeze_count():
            return
        gc.freeze()
        thresholds = gc.get_threshold()
        if all(source.miniature for source in self.request.sources.values()):
            # Bridges hang in cycles; large ones have to be let go of soon.
            gc.set_threshold(RARELY, *thresholds[1:])
        if self.config.pluginmanager.hasplugin(GIVEN):
            # Someone else's process; any other ends with the run, and ends sooner.
            self.config.add_cleanup(gc.unfreeze)
            self.config.add_cleanup(lambda: gc.set_threshold(*thresholds))

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
        if isinstance(item, MutantItem) and report.when == "call":
            ended = call.excinfo.exconly() if call.excinfo else "the mutant was left before it was judged"
            report.conformance_kill = {"node": item.nodeid, **item.told(ended)}  # type: ignore[attr-defined]
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
        self.placed = {placed.node: placed for placed in request.placed()}
        self.selected: set[str] | None = None
        self.told: dict[str, dict[str, Any]] = {}
        self.kills: dict[str, dict[str, Any]] = {}
        self.lost: set[str] = set()
        self.document: dict[str, Any] = {}
        self.written: list[Path] = []
        self.unwritten: list[str] = []
        self.stamps = self._stamps()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers: what is left after everything deselected."""
        if session.items or self.selected is None:
            self._select(str(item.nodeid) for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """With workers: what each of them will run."""
        self._select(ids)

    def _select(self, ids: Any) -> None:
        self.selected = (self.selected or set()) | (set(ids) & (self.expected.keys() | self.placed.keys()))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note the outcome of a case."""
        told = getattr(report, "conformance", None)
        if told is not None:
            self.told[told["node"]] = told
        kill = getattr(report, "conformance_kill", None)
        if kill is not None:
            self.kills[kill["node"]] = kill

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Note a case in which a worker was lost; another may judge it again, and nobody knows why the first was."""
        self.lost.add(crashitem)

    @property
    def state(self) -> str:
        """COMPLETE, PARTIAL (the user narrowed the run) or INCOMPLETE (cases never reported, or a worker lost)."""
        if self.selected is None or self.lost or self.selected - self.told.keys() - self.kills.keys():
            return "INCOMPLETE"
        return "COMPLETE" if self.selected == self.expected.keys() | self.placed.keys() else "PARTIAL"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Settle the exit status and write what was asked for."""
        if self.config.option.collectonly or not (self.selected or session.exitstatus in SETTLED):
            return
        if self.state != "COMPLETE":
            # Whoever looks at a part asks for no tidying up: syrupy deletes no file.
            self.config.option.no_cleanup = True
        if self._changed():
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
            return
        self.document = document.build(self.request, self.expected, self.told, self.state, self.kills)
        if self.request.report is not None:
            self._write(self.request.report, document.text_of(self.document))
        if self.request.html is not None:
            from .report import html

            self._write(self.request.html, html.render(self.document))
        if self.request.deviations is not None:
            self._write(self.request.deviations, document.deviations(self.document), fresh=True)
        if session.exitstatus == pytest.ExitCode.OK and self._red():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _stamps(self) -> dict[Path, dict[str, Any]]:
        return {source.folder: seal.stamps(source.folder) for source in self.request.sources.values()}

    def _changed(self) -> bool:
        """Whether a model is another one by now: what was found is of neither, and nothing is written."""
        for folder, now in self._stamps().items():
            before = self.stamps[folder]
            names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            if names:
                told = f"{printable(str(folder))}: {names[0]} changed while it was judged"
                self.unwritten.append(f"ERROR: {told}; nothing is written, run again once it is finished")
        return bool(self.unwritten)

    def _write(self, path: Path, text: str, *, fresh: bool = False) -> None:
        try:
            document.write_text(path, text, fresh=fresh)
            self.written.append(path)
        except OSError as error:
            told = f"{printable(str(path))}: not written, what stood there still does: {error.strerror}"
            self.unwritten.append(f"ERROR: {told}")

    def _red(self) -> bool:
        """What pytest itself does not count as a failure, but a judge must."""
        adapters = self.document["verdicts"]["adapters"]
        unmet = any(adapter["summary"]["red"] for adapter in adapters)
        narrowed = self.state == "PARTIAL" and self.request.complete
        nothing = not self.selected or (self.request.mutants and not self.kills)
        return nothing or self.state == "INCOMPLETE" or narrowed or unmet or bool(self.unwritten)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The verdict, on one screen."""
        if self.document:
            terminal.show(terminalreporter, self.document, self.written)
        for line in self.unwritten:
            terminalreporter.line(line, red=True)
