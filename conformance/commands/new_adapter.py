"""Draft what an adapter of one's own needs to be judged: a spec, a miniature of its model and an empty ledger.

The model's code is run, and copied beside the spec, from where pytest runs it unasked; so it takes the flag.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import os
import re
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import CommandError

if TYPE_CHECKING:
    from ..drafting.folder import Folder


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("name", metavar="NAME", help="what to call it: the spec becomes NAME.py")
    parser.add_argument(
        "--model", required=True, metavar="FOLDER", help="a folder shaped like the model's hub repository"
    )
    parser.add_argument(
        "--adapter",
        metavar="MODULE:CLASS",
        help="the class to judge; by default the one that TransformerLens ships for the architecture",
    )
    parser.add_argument("--output", default=".", metavar="DIR", help="where to write; by default here")
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="SIZE=FIELD",
        help="the field of config.json that holds a size, such as layers=depth; repeatable",
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="run and copy the code of the folder")


LEDGER = "# Deviations of {name} that are known, each with its reason: see docs/new-adapter.md. None yet.\n"


def run(given: argparse.Namespace) -> int:
    """Write the draft and say what comes next."""
    from ..checkpoint import CheckpointError
    from ..drafting.folder import DraftError, read

    output = Path(given.output)
    _free(given.name, output)
    try:
        folder = read(Path(given.model).expanduser(), dict(_named(given.size)))
        if not given.trust_remote_code:
            code = ", ".join(sorted(path.name for path in folder.path.glob("*.py")))
            raise CommandError(
                f"--model {given.model}: what the model takes and is made of only its code says ({code}); read it, and "
                "add --trust-remote-code to run it and to copy it beside the spec"
            )
        todo = _write(given.name, folder, output, given.adapter)
    except (DraftError, CheckpointError) as error:
        raise CommandError(str(error)) from None
    _tell(given.name, output, todo)
    return 0


def _free(name: str, output: Path) -> None:
    """Refuse a name that cannot be imported, or that is taken."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise CommandError(f"NAME: got {name!r}, want the name of a module, such as my_model")
    if not output.is_dir():
        raise CommandError(f"--output {output}: no such folder; make it first")
    if not os.access(output, os.W_OK):
        raise CommandError(f"--output {output}: cannot be written to; choose another")
    for path in _targets(name, output):
        if path.exists():
            raise CommandError(f"--output {output}: there is a {path.name} already, and nothing is overwritten")
    from ..adapters import names

    if name in names() or importlib.util.find_spec(name) is not None:
        raise CommandError(f"NAME: there is a {name!r} already; choose another, such as my_{name}")


def _targets(name: str, output: Path) -> tuple[Path, Path, Path]:
    return output / name, output / f"{name}.deviations.toml", output / f"{name}.py"


def _named(sizes: list[str]) -> list[tuple[str, str]]:
    for text in sizes:
        if not re.fullmatch(r"\w+=\w+", text):
            raise CommandError(f"--size {text}: want SIZE=FIELD, such as layers=depth")
    return [(text.partition("=")[0], text.partition("=")[2]) for text in sizes]


def _write(name: str, folder: Folder, output: Path, adapter: str | None) -> dict[str, str]:
    """Make all three in a folder beside them, then move them: they are there together or not at all."""
    from ..drafting import draft
    from ..offline import offline

    with offline(), tempfile.TemporaryDirectory(dir=output, prefix=".drafting-") as scratch:
        model, ledger, spec = made = _targets(name, Path(scratch))
        folder.copy(model)
        text, todo = draft(name, folder, model.resolve(), adapter)
        ledger.write_text(LEDGER.format(name=name), encoding="utf-8")
        spec.write_text(text, encoding="utf-8")
        for here, there in zip(made, _targets(name, output), strict=True):
            here.rename(there)
    return todo


def _tell(name: str, output: Path, todo: dict[str, str]) -> None:
    folder, ledger, spec = _targets(name, output)
    print(f"{spec}: the spec, with {len(todo)} questions in its `todo`:")
    for field, question in todo.items():
        print(f"  {field}: {question}")
    print(f"{folder}{os.sep}: the model made small, its weights drawn when they are first needed")
    print(f"{ledger}: the ledger, empty")
    print(f"next: PYTHONPATH={shlex.quote(str(output))} pytest --adapter {name}:SPEC")
