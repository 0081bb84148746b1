"""Print the shards of work that is larger than one machine, as a matrix that GitHub Actions takes.

Every shard judges some adapters on their own models, or one adapter on one checkpoint, in one environment, by the
command that stands in it; `conformance merge` makes the one verdict of their reports. No model is loaded.
"""

from __future__ import annotations

import argparse

from . import CommandError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME",
        help="as for pytest: a name, several with commas, all, or module:SPEC; repeatable",
    )
    parser.add_argument(
        "--checkpoint",
        action="extend",
        nargs="+",
        default=[],
        metavar="ADAPTER=DIR_OR_REPO@REV",
        help="judge this adapter on this checkpoint too",
    )
    parser.add_argument(
        "--versions",
        action="extend",
        nargs="+",
        default=[],
        metavar="PINS",
        help="one environment each, such as transformers==5.9.0 or transformers==5.9.0,transformer-lens==4.3.0",
    )
    parser.add_argument("--together", type=int, default=1, metavar="N", help="adapters in one shard; 1 by default")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the modelling code that comes with the checkpoints"
    )


def run(given: argparse.Namespace) -> int:
    """Print the plan as one line of JSON."""
    from .. import shards

    try:
        planned = shards.make(
            given.adapter, given.checkpoint, given.versions, together=given.together, trust=given.trust_remote_code
        )
    except shards.PlanError as error:
        raise CommandError(str(error)) from None
    print(shards.text_of(planned))
    return 0
