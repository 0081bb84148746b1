"""Progress of long runs: now and then a line that says how far it is, and at what."""

from __future__ import annotations

import time

import pytest

EVERY = 30.0
"""Seconds between two lines; a run on a miniature ends before the first."""


class Progress:
    """Printed between the dots, where pytest prints any, with and without workers, on a terminal and in a log."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.began = self.told = time.monotonic()
        self.ended: set[str] = set()
        self.selected = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers: how many there are."""
        self.selected = self.selected or len(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """With workers: the same, as each of them says it."""
        self.selected = len(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what has ended."""
        if report.when == "teardown":
            self.ended.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say what starts, where nothing was said for a while."""
        now = time.monotonic()
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if now - self.told < EVERY or reporter is None or reporter.verbosity > 0:
            return
        self.told = now
        minutes, seconds = divmod(int(now - self.began), 60)
        if self.config.get_terminal_writer().width_of_current_line:
            reporter.write_line("")
        reporter.write_line(f"{len(self.ended)} of {self.selected} after {minutes}:{seconds:02}, at {nodeid}")
        # Where there are no workers, the name at the head of its line of dots is due again.
        reporter.currentfspath = None
