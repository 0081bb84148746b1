"""Judge what a change does to the adapters of a repository: head's reports and speed against base's.

Exit status 0 when the change may pass, 1 when it may not, 4 when it cannot be judged.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from . import CommandError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--base", required=True, metavar="REV", help="the revision before the change, such as main")
    parser.add_argument("--head", default="HEAD", metavar="REV", help="the revision with it; by default HEAD")
    parser.add_argument("--repository", default=".", metavar="DIR", help="a folder of the checkout with pyproject.toml")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME",
        help="adapters to look at, by name or module:SPEC, repeatable; by default all of the repository",
    )
    parser.add_argument("--output", metavar="DIR", help="write reports, summary, JUnit and badges to this new folder")
    parser.add_argument("--cache", metavar="DIR", help="keep reports here by content, and take those that are there")
    parser.add_argument("--annotations", action="store_true", help="print GitHub annotations, as on GitHub itself")
    parser.add_argument("--no-timing", action="store_true", help="leave out the comparison of speed")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the modelling code of fixtures elsewhere")


def run(given: argparse.Namespace) -> int:
    """Hold the gate and tell what came of it."""
    from ..gate import GateError

    # A cancelled job ends as an interrupted one does: processes end, folders go.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(given)
    except GateError as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        print("interrupted; nothing was left behind", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(given: argparse.Namespace) -> int:
    from ..gate.asked import ask
    from ..gate.gate import hold
    from ..gate.outputs import annotated, append_summary, writable, write
    from ..gate.summary import ten, verdict
    from ..report.annotations import at_most

    asked = ask(given)
    folder = None if given.output is None else writable(given.output)
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    held = hold(asked, lambda line: print(line, file=sys.stderr, flush=True))
    print(*(f"- {line}" for line in ten(held)), verdict(held), sep="\n")
    if folder is not None:
        write(held, folder)
    if step:
        append_summary(held, Path(step))
    if given.annotations or os.environ.get("GITHUB_ACTIONS") == "true":
        for annotation in at_most(list(annotated(held, asked.repository.prefix))):
            print(annotation.command())
    return 1 if held.failures else 0


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
