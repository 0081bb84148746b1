"""Show a report again: the summary that the run printed, or what CI makes of it.

Nothing is judged, and nothing imported that could judge; the exit status says whether the report could be read.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..report.document import Document


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("report", metavar="REPORT", type=Path, help="what --conform-report wrote")
    parser.add_argument("--adapter", metavar="NAME", help="of this adapter only")
    parser.add_argument("-v", "--verbose", action="store_true", help="every declared place, with its reason")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as Markdown, for a job summary")
    form.add_argument("--badge", action="store_true", help="as JSON for the endpoint badge of shields.io")
    form.add_argument(
        "--annotations", action="store_true", help="what is red, as lines that GitHub shows in the source"
    )
    form.add_argument("--html", metavar="PATH", type=Path, help="as one HTML page, written to this file")


def run(given: argparse.Namespace) -> int:
    """Print the report in the form that was asked for."""
    from ..report import reading
    from . import CommandError

    try:
        document = reading.read(given.report)
        if given.adapter is not None:
            document = reading.alone(document, given.adapter)
    except reading.ReportError as error:
        raise CommandError(str(error)) from None
    print(_text(document, given), end="")
    return 0


def _text(document: Document, given: argparse.Namespace) -> str:
    from . import CommandError

    adapters = document["verdicts"]["adapters"]
    if given.badge:
        if len(adapters) > 1:
            names = ", ".join(adapter["adapter"] for adapter in adapters)
            raise CommandError(f"{given.report}: a badge is of one adapter, and here are {names}; add --adapter NAME")
        return json.dumps(adapters[0]["badge"], ensure_ascii=False) + "\n"
    if given.markdown:
        from ..report import job, markdown

        return markdown.cut(job.render(document))
    if given.annotations:
        return _annotations(document)
    if given.html is not None:
        from ..report import document as documents
        from ..report import html

        try:
            documents.write_text(given.html, html.render(document))
        except OSError as error:
            raise CommandError(f"--html {given.html}: cannot write there: {error.strerror}; name a file") from None
        return f"written: {given.html}\n"
    from ..report import terminal

    return "".join(f"{line}\n" for line in terminal.plain(document, given.verbose))


def _annotations(document: Document) -> str:
    """In the sources of the adapters that lie in this folder; paths are those that GitHub knows."""
    from ..gate.imports import texts
    from ..gate.tree import Tree
    from ..report import annotations

    here = Path.cwd()
    checkout = Path(os.environ.get("GITHUB_WORKSPACE") or here)
    prefix = f"{here.relative_to(checkout).as_posix()}/" if checkout in here.parents else ""
    modules = document["measurements"].get("modules", {})
    sources = {
        name: {f"{prefix}{path}": text for path, text in texts(Tree(here), module).items()}
        for name, module in modules.items()
    }
    shown = annotations.at_most(list(annotations.of(document, sources)))
    return "".join(f"{annotation.command()}\n" for annotation in shown)
