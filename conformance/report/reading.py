"""A report from its file, whole and unaltered, or one line that says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..spec import nearest
from .document import Document, digest, validate


class ReportError(ValueError):
    """A file that is no report of this version, or an adapter that a report does not have; in one line."""


def read(path: Path) -> Document:
    """The report in a file; ReportError unless it follows the schema and its verdicts are those that were hashed."""
    import jsonschema

    try:
        document: Document = json.loads(path.read_text(encoding="utf-8"))
        validate(document)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}; name what --conform-report wrote") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: no JSON, or cut short: {error}; fetch or write it again") from None
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the whole"
        said = error.message if len(error.message) < 120 else f"{error.message[:120]}..."
        raise ReportError(f"{path}: no report of this version: {where}: {said}; run it again") from None
    if document["digest"] != digest(document["verdicts"]):
        raise ReportError(f"{path}: its digest is not that of its verdicts, so it was altered; fetch or write it again")
    return document


def adapters(document: Document) -> dict[str, dict[str, Any]]:
    """What a report says of each adapter, by name."""
    return {adapter["adapter"]: adapter for adapter in document["verdicts"]["adapters"]}


def alone(document: Document, name: str) -> Document:
    """The report as it would be of one adapter only; ReportError, with a did-you-mean, where it does not have it."""
    known = adapters(document)
    if name not in known:
        raise ReportError(f"--adapter {name}: is not in this report{nearest(name, known)}")
    return {**document, "verdicts": {**document["verdicts"], "adapters": [known[name]]}}
