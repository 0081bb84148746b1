"""Tell what changed from one report to another: verdicts, findings, deviations, hooks, counts, speed, versions.

Both are files that `--conform-report` wrote. Exit status 0 when nothing got worse, 1 when something did, 4 when one of
them is no report. A deviation that is newly declared is worse where there was none; time is told, and is worse only
when it grew beyond what chance and machines explain.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("old", metavar="OLD", type=Path, help="the report before")
    parser.add_argument("new", metavar="NEW", type=Path, help="the report now")
    parser.add_argument("-v", "--verbose", action="store_true", help="every line of what changed")
    parser.add_argument("--markdown", action="store_true", help="as Markdown, for a job summary")


def run(given: argparse.Namespace) -> int:
    """Print what changed."""
    from ..difference import diff
    from ..report.markdown import cut
    from ..report.reading import ReportError
    from . import CommandError

    try:
        found = diff(given.old, given.new)
    except ReportError as error:
        raise CommandError(str(error)) from None
    if given.markdown:
        print(cut(found.markdown()), end="")
    else:
        print("\n".join(found.lines(None) if given.verbose else found.lines()))
    return int(bool(found.worse))
