"""Under `-n`: which worker judges what."""

from __future__ import annotations

from typing import Any

import pytest

from .request import Request

TOGETHER = 2
"""Mutants that go to a worker at once: few, as some take twenty times as long as others, and all are booted anew."""


class Scopes:
    """Under `-n`, all cases of one adapter go to one worker, so that it boots once; mutants go in handfuls."""

    def __init__(self, request: Request) -> None:
        self.scope_of = {case.node: case.spec.name for case in request.cases()}
        for number, placed in enumerate(request.placed()):
            self.scope_of[placed.node] = f"{placed.spec.name}: mutants {number // TOGETHER}"

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """A scheduler for the default `--dist load`; any other that the user names is left alone."""
        if config.getoption("dist") != "load":
            return None
        from xdist.scheduler import LoadScopeScheduling

        scope_of = self.scope_of

        class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
            def _split_scope(self, nodeid: str) -> str:
                return scope_of.get(nodeid) or str(super()._split_scope(nodeid))

        return Scheduling(config, log)
