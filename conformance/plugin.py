"""The pytest plugin: command line options, and nothing else until `--adapter` is given. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import pytest

NEED_ADAPTER = (
    "checkpoint",
    "trust_remote_code",
    "conform_report",
    "conform_html",
    "complete",
    "write_deviations",
    "baseline_update",
    "mutants",
)
"""Options that mean nothing without an adapter."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the group `conformance`."""
    group = parser.getgroup("conformance", "conformance of TransformerLens bridge adapters")
    group.addoption(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME",
        help="adapter to judge: a known name, several with commas, all, or module:SPEC; repeatable",
    )
    group.addoption(
        "--checkpoint",
        metavar="DIR_OR_REPO@REV",
        help="judge on this checkpoint instead of the bundled miniature; from the disk or the local hub cache",
    )
    group.addoption(
        "--trust-remote-code", action="store_true", help="run the modelling code that comes with the checkpoint"
    )
    group.addoption("--conform-report", metavar="PATH", help="write the report as JSON")
    group.addoption("--conform-html", metavar="PATH", help="write the report as one HTML page, to be read by people")
    group.addoption("--complete", action="store_true", help="a run that leaves out any requirement is red")
    group.addoption(
        "--write-deviations", metavar="PATH", help="draft ledger entries for what fails, with reasons left to write"
    )
    group.addoption(
        "--baseline-update",
        action="store_true",
        help="put down the miniature's ratios of time as this machine's baseline, beside the spec; needs an idle core",
    )
    group.addoption(
        "--mutants", action="store_true", help="put known defects into the adapter, one by one, and show who notices"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start a run when adapters are asked for."""
    if config.getoption("adapter"):
        from .starting import start

        start(config)
        return
    for name in NEED_ADAPTER:
        if config.getoption(name) not in (None, False):
            raise pytest.UsageError(f"--{name.replace('_', '-')} needs an adapter to judge; add --adapter NAME")
