"""Under `-n`: which worker judges which adapter."""

from __future__ import annotations

from typing import Any

import pytest

from .request import Request


class ByAdapter:
    """Under `-n`, all cases of one adapter go to one worker, so that it boots once."""

    def __init__(self, request: Request) -> None:
        self.adapter_of = {case.node: case.spec.name for case in request.cases()}

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """A scheduler for the default `--dist load`; any other that the user names is left alone."""
        if config.getoption("dist") != "load":
            return None
        from xdist.scheduler import LoadScopeScheduling

        adapter_of = self.adapter_of

        class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
            def _split_scope(self, nodeid: str) -> str:
                return adapter_of.get(nodeid) or str(super()._split_scope(nodeid))

        return Scheduling(config, log)
