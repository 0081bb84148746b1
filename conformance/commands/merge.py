"""Join the reports of all shards of a plan into the one verdict that a single run would have given.

A missing, duplicated or foreign report is refused, as is one that is of an unfinished run or was altered (exit status
4, nothing written). Otherwise OUT gets a report for every environment, and one for every checkpoint in it, and the
table of all of them is printed as Markdown; exit status 1 if one is red.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import CANNOT, CommandError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("plan", metavar="PLAN", type=Path, help="what `conformance plan` printed, as a file")
    parser.add_argument("reports", metavar="REPORT", type=Path, nargs="*", help="what the shards wrote")
    parser.add_argument("--output", metavar="OUT", type=Path, required=True, help="a new folder for the joined reports")


def run(given: argparse.Namespace) -> int:
    """Hold the reports against the plan, write what they add up to, and print it."""
    from .. import joining, shards
    from ..report import document, overview

    if given.output.is_dir() and any(given.output.iterdir()):
        raise CommandError(f"--output {given.output}: is not empty; name a new folder, so that nothing old is in it")
    try:
        runs = joining.join(shards.read(given.plan), given.reports)
    except shards.PlanError as error:
        raise CommandError(str(error)) from None
    except joining.Refused as refused:
        print("\n".join(f"ERROR: {line}" for line in refused.lines), file=sys.stderr)
        return CANNOT
    try:
        given.output.mkdir(parents=True, exist_ok=True)
        for one in runs:
            document.write_text(given.output / f"{one.name}.json", document.text_of(one.document))
    except OSError as error:
        raise CommandError(f"--output {given.output}: cannot write there: {error.strerror}; name a folder") from None
    by_environment: dict[str, list[document.Document]] = {}
    for one in runs:
        by_environment.setdefault(one.versions, []).append(one.document)
    print(overview.render(by_environment))
    return int(any(one.red for one in runs))
