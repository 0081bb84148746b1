"""Explain a requirement by its id, or a hook of an adapter by its name.

Of a requirement: its sentence and reason, what it rests on and what rests on it, the defects that it must notice, and
who declares that it is not met. Of a hook: when it fires and with what, which of its promises are proven and by whom,
and what is wrong or declared there. That is read from a report, or judged here and now, which boots the adapter and
takes as long as a run of these requirements alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..report.document import Document
    from ..requirement import Requirement


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("name", metavar="NAME", help="a requirement such as hooks/fires, or a hook, with --adapter")
    parser.add_argument("--adapter", metavar="ADAPTER", help="whose hook it is: a known name or module:SPEC")
    parser.add_argument("--layout", metavar="LAYOUT", action="append", default=[], help="in this layout; repeatable")
    parser.add_argument("--report", metavar="REPORT", type=Path, help="read it from what --conform-report wrote")


def run(given: argparse.Namespace) -> int:
    """Print the explanation."""
    from . import CommandError

    of_hook = [option for option in ("adapter", "layout", "report") if getattr(given, option)]
    if "/" not in given.name and of_hook:
        lines = _hook(given)
    elif "/" in given.name and of_hook:
        raise CommandError(f"--{of_hook[0]}: {given.name} is a requirement, the same for all; drop it, or name a hook")
    else:
        lines = _requirement(given.name)
    for line in lines:
        print(line)
    return 0


def _requirement(id: str) -> Iterator[str]:
    from ..contract import terms
    from ..mutants import mutants
    from ..report.terminal import folded
    from ..requirement import requirements

    known, defects = requirements(), mutants()
    if id not in known:
        raise _unknown(id)
    required = known[id]
    yield required.id
    yield terms(required)
    yield ""
    yield from folded(required.sentence, indent=0)
    yield ""
    yield from folded(f"why       {required.reason}", indent=10)
    for title, ids in (("needs", required.needs), ("carries", _carried(required, known))):
        if ids:
            yield from folded(f"{title:<10}{', '.join(ids)}", indent=10)
    yield from folded(f"judge it  pytest --adapter NAME {required.node}", indent=10)
    stories = [f"{defect.id}: {defect.story}" for defect in defects.values() if defect.kills == id]
    if stories:
        yield "must notice"
    for story in stories:
        yield from folded(f"  {story}", indent=4)
    declared = list(_declared(required, known))
    yield "declared deviations" if declared else "no known adapter declares a deviation of it"
    yield from declared


def _unknown(name: str) -> Exception:
    from ..mutants import mutants
    from ..requirement import requirements
    from ..spec import nearest
    from . import CommandError

    defects = mutants()
    if name in defects:
        return CommandError(f"{name} is a known defect; explain {defects[name].kills}, which must notice it")
    if "hook_" in name:
        return CommandError(f"{name}: a hook is one of an adapter; add --adapter NAME")
    near = nearest(name, requirements())
    return CommandError(
        f"unknown requirement {name!r}"
        + (near if "did you mean" in near else "; `conformance list --requirements` lists them")
    )


def _carried(required: Requirement, known: dict[str, Requirement]) -> list[str]:
    from ..requirement import BLOCKING

    if required.id in BLOCKING:
        return ["all that is judged after it"]
    return [other.id for other in known.values() if required.id in other.needs]


def _declared(required: Requirement, known: dict[str, Requirement]) -> Iterator[str]:
    """Places and reasons, each with the adapters that give it."""
    from .. import adapters, ledger
    from ..report.terminal import folded

    told: dict[tuple[str, str], list[str]] = {}
    where: dict[tuple[str, str], dict[str, None]] = {}
    for name in adapters.names():
        try:
            (spec,) = adapters.resolve([name])
            entries = ledger.load(spec, known).entries
        except (adapters.UnknownAdapter, ledger.LedgerError):
            continue
        for entry in entries:
            if entry.requirement == required.id:
                key = entry.finding, entry.because
                told.setdefault(key, [])
                told[key] += [] if spec.name in told[key] else [spec.name]
                limits = ", ".join((*entry.layouts, *entry.versions))
                where.setdefault(key, {})[f"{entry.at} ({limits})" if limits else entry.at] = None
    for key, names in told.items():
        finding, because = key
        yield from folded(f"  {', '.join(names)}: {finding} at {', '.join(where[key])}", indent=4)
        yield from folded(f"    {because}", indent=4)


def _hook(given: argparse.Namespace) -> Iterator[str]:
    from ..report import hook, reading
    from . import CommandError

    if not given.adapter and not given.report:
        raise CommandError(f"{given.name}: a hook is one of an adapter; add --adapter NAME")
    try:
        document = reading.read(given.report) if given.report else _judged(given.adapter)
        if given.report and given.adapter:
            document = reading.alone(document, given.adapter)
        found = reading.adapters(document)
        if len(found) > 1:
            raise CommandError(f"{given.report}: is on {', '.join(found)}; add --adapter NAME")
        (adapter,) = found.values()
        lines = list(hook.explain(adapter, given.name, given.layout))
    except reading.ReportError as error:
        raise CommandError(str(error)) from None
    yield from lines


def _judged(name: str) -> Document:
    """The report of a run here, of one adapter, by what its hooks need to be explained."""
    from .. import adapters
    from ..report.hook import NEEDED
    from ..request import RequestError
    from ..verification import verify
    from . import CommandError

    try:
        specs = adapters.resolve([name])
        if len(specs) > 1:
            raise CommandError(f"--adapter {name}: are {len(specs)} adapters; name one")
        if sys.stderr.isatty():
            print(f"judging {specs[0]}, for seconds; --report reads it from a report", file=sys.stderr)
        return verify(specs[0], only=NEEDED).document
    except (adapters.UnknownAdapter, RequestError) as error:
        raise CommandError(str(error)) from None
