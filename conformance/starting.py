"""How a run starts: the request is validated, what cannot work is refused, and the run registered with pytest."""

from __future__ import annotations

import difflib
import re
from contextlib import ExitStack

import pytest

from . import baselines
from .offline import offline
from .progress import Progress
from .request import Request, RequestError, make
from .requirement import FAMILIES, Level, module_of
from .scheduling import Scopes
from .session import BOOKS, GIVEN, RUN, XDIST, Books, Run
from .spec import printable

NODE = re.compile(rf"[./]*(?P<id>conformance\.(mutants\.)?({'|'.join(FAMILIES)})(::.*)?)")
"""The node id of a case or a mutant, as pytest prints it in any folder."""

OWN = (RUN, XDIST, BOOKS)
"""Plugins that a run is made of."""


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
                html=None if worker else option("conform_html"),
                deviations=None if worker else option("write_deviations"),
                complete=option("complete"),
                renew=option("baseline_update"),
                mutants=option("mutants"),
            )
        )
    except RequestError as error:
        raise pytest.UsageError(printable(str(error))) from None
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
    config.addinivalue_line("markers", "mutant: known defects, put into the adapter with --mutants")
    # Its table would come between a reader and the verdict; --benchmark-json and -v still show it.
    config.option.benchmark_quiet = True
    ids = _take_ids(config, request)
    _share_snapshot_folders(request)
    config.pluginmanager.register(Run(config, request, ids), RUN)
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(Scopes(request), XDIST)
    if not worker:
        config.pluginmanager.register(Books(config, request), BOOKS)
        config.pluginmanager.register(Progress(config))


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
    nodes = [*(case.node for case in request.cases()), *(placed.node for placed in request.placed())]
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
