"""List what there is: the known adapters, or the requirements or the known defects of all families or of one.

No model is loaded. An adapter that TransformerLens ships and that works with its user's help is `repaired`. `declared`
counts the requirements of which an adapter declares a deviation under the installed versions; whether it conforms is
for a run to say.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

ALL = "all"
"""What an option holds that was given without a family."""

HEAD = ("adapter", "architecture", "shipped", "declared", "layouts")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    what = parser.add_mutually_exclusive_group()
    for name, help in (("requirements", "what adapters are judged by"), ("mutants", "defects that are put into them")):
        what.add_argument(f"--{name}", nargs="?", const=ALL, metavar="FAMILY", help=help)


def run(given: argparse.Namespace) -> int:
    """Print the list."""
    if given.requirements is not None:
        lines = _requirements(_families(given.requirements))
    elif given.mutants is not None:
        lines = _mutants(_families(given.mutants))
    else:
        lines = _adapters()
    for line in lines:
        print(line)
    return 0


def _families(name: str) -> tuple[str, ...]:
    from ..requirement import FAMILIES
    from ..spec import nearest
    from . import CommandError

    if name == ALL:
        return FAMILIES
    if name not in FAMILIES:
        raise CommandError(f"unknown family {name!r}{nearest(name, FAMILIES)}")
    return (name,)


def _adapters() -> Iterator[str]:
    from .. import adapters
    from ..report.terminal import folded

    rows = [HEAD, *(_row(name) for name in adapters.names())]
    widths = [
        max(map(len, column)) for column in zip(*(row[:-1] for row in rows if len(row) == len(HEAD)), strict=True)
    ]
    for name, *cells in rows:
        columns = [name, *cells] if len(cells) > 1 else [name]
        padded = "  ".join(cell.ljust(width) for cell, width in zip(columns, widths, strict=False))
        yield from folded(f"{padded}  {cells[-1]}", indent=len(padded) + 2)


def _row(name: str) -> Sequence[str]:
    """The cells of an adapter; two where it cannot be read, which is no reason to tell nothing of the others."""
    from .. import adapters, ledger
    from ..requirement import requirements

    try:
        (spec,) = adapters.resolve([name])
        entries = ledger.load(spec, requirements()).entries
    except (adapters.UnknownAdapter, ledger.LedgerError) as error:
        return name, f"cannot be read: {error}"
    shipped = "no" if spec.adapter else "repaired" if spec.built or spec.repair else "yes"
    declared = len({entry.requirement for entry in entries if entry.in_range()})
    layouts = ", ".join(layout.name for layout in spec.layouts)
    return name, spec.architecture, shipped, str(declared), layouts


def _requirements(families: Sequence[str]) -> Iterator[str]:
    from ..report.terminal import folded
    from ..requirement import requirements

    for required in requirements().values():
        if required.family in families:
            yield required.id
            yield from folded(f"    {required.sentence}", indent=4)


def _mutants(families: Sequence[str]) -> Iterator[str]:
    from ..mutants import mutants
    from ..report.terminal import folded

    for mutant in mutants().values():
        if mutant.kills.partition("/")[0] in families:
            yield f"{mutant.id}, to be noticed by {mutant.kills}"
            yield from folded(f"    {mutant.story}", indent=4)
