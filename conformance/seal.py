"""A seal: the digest of a folder, kept in it, which tells whether all that was put there still is what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

NAME = ".sealed"


def put(folder: Path) -> None:
    """Seal a folder that is finished."""
    (folder / NAME).write_bytes(_digest(folder))


def holds(folder: Path) -> bool:
    """Whether a folder is there, was sealed, and no file of it was cut short, changed, added or lost since."""
    try:
        return (folder / NAME).read_bytes() == _digest(folder)
    except OSError:
        return False


def _digest(folder: Path) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest().encode()
