"""The command line beside pytest: `conformance COMMAND`, one module per command, named like it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS: tuple[str, ...] = (
    "diff",
    "explain",
    "gate",
    "list",
    "logits",
    "matrix",
    "merge",
    "new-adapter",
    "plan",
    "show",
)
"""Each is a module here with `arguments(parser)` and `run(given) -> int`; its first line is the help of the command."""

CANNOT = 4
"""Exit status of a request that cannot be carried out, as pytest's for a wrong usage."""


BROKEN_PIPE = 128 + 13
"""As the shell tells of a program that SIGPIPE ended."""


class CommandError(ValueError):
    """A command that cannot be carried out; the message is one line and ends with what to do."""


def parser() -> argparse.ArgumentParser:
    """What reads a command line; it sets `run`, the function of the command."""
    parser = argparse.ArgumentParser(
        prog="conformance", description="Around `pytest --adapter NAME`: what to run, and what came of it."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f".{name.replace('-', '_')}", __name__)
        first = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=first, description=module.__doc__)
        module.arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0 when all is well, 1 when something was found, 4 when it cannot run."""
    given = parser().parse_args(arguments)
    try:
        status: int = given.run(given)
        sys.stdout.flush()
    except CommandError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return CANNOT
    except BrokenPipeError:
        # Who reads has read enough, as `| head` has; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status
