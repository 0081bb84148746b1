"""A gate as it was asked for, every name checked before anything runs."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from . import GateError
from .repository import Repository, Revision


@dataclass(frozen=True, slots=True)
class Asked:
    """Which change to judge, for which adapters, and how; `notes` are what a reader should know of it."""

    repository: Repository
    base: Revision
    head: Revision
    adapters: tuple[str, ...] = ()
    trust: bool = False
    timed: bool = True
    cache: Path | None = None
    notes: tuple[str, ...] = ()


def ask(given: argparse.Namespace) -> Asked:
    """What the command line asks for; GateError for what there is not."""
    repository = Repository.at(Path(os.path.expanduser(given.repository)))
    base, head = repository.revision("--base", given.base), repository.revision("--head", given.head)
    fork = repository.fork_point(base, head)
    notes = []
    if fork is None:
        notes.append(f"{base} and {head} have no common ancestor in this clone, so they are compared as they stand")
    elif fork.commit != base.commit:
        notes.append(f"compared with {fork}, where {head.name} left {base.name}")
    if repository.dirty():
        notes.append("what is not committed is not judged")
    names = [name.strip() for part in given.adapter for name in part.split(",")]
    if not all(names):
        raise GateError("--adapter got an empty name; name an adapter of the repository, or leave it out for all")
    return Asked(
        repository,
        fork or base,
        head,
        adapters=tuple(dict.fromkeys(names)),
        trust=given.trust_remote_code,
        timed=not given.no_timing,
        cache=None if given.cache is None else _cache(given.cache),
        notes=tuple(notes),
    )


def _cache(text: str) -> Path:
    folder = Path(os.path.expanduser(text)).absolute()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise GateError(f"--cache {text}: cannot be a folder: {error.strerror}; name another place") from None
    return folder
