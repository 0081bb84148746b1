"""Drafting: the first spec of an adapter, from a model folder, with what could not be told left as questions."""

from __future__ import annotations

from pathlib import Path

from .folder import Folder


def draft(name: str, folder: Folder, copy: Path, adapter: str | None) -> tuple[str, dict[str, str]]:
    """The text of a spec, and its open questions by field; the code in `copy`, a small copy of the folder, runs.

    Raises:
        DraftError: there is no adapter to judge, or the code builds no model of this size.
    """
    from .fields import fields
    from .questions import questions
    from .seen import look
    from .text import module

    seen = look(name, folder, copy, adapter)
    todo = questions(seen)
    return module(seen.spec.architecture, {**fields(seen), "todo": todo}, seen.shim.source), todo
