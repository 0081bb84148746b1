"""The report as one HTML page: everything in it, nothing loaded from anywhere, readable without its script."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..document import Document
from . import rows, view

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent


def render(document: Document) -> str:
    """The page of a report of any number of adapters; `document.write_text` puts it into a file.

    It is made of the report alone, but for sentences and reasons, which are the contract's.
    """
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return _template().render(
        page=view.page(document),
        style=style,
        script=script,
        allowed={"style": _source(style), "script": _source(script)},
    )


@functools.cache
def _template() -> jinja2.Template:
    # Importing and compiling takes a tenth of a second each; only who asks for a page should pay.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(figure=rows.figure, worst=rows.worst, image=_image)
    return environment.get_template("page.html.jinja")


def _source(text: str) -> str:
    """The one style or script that a browser may run on the page: a report holds the words of strangers."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _image(svg: str) -> str:
    """A drawing as the address of an image, in which nothing runs and nothing is loaded."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode(errors='backslashreplace')).decode()}"
