"""Scratch folders: one goes with the process that made it or, where that was killed, when the next one is made."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a folder that is left stays.
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""A file that is locked as long as the process of its folder lives, whatever becomes of that."""


@contextmanager
def scratch(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder, by default among the system's temporary files; those of its prefix that are left over go."""
    home = Path(tempfile.gettempdir()) if parent is None else parent
    for folder in home.glob(f"{prefix}*"):
        _sweep(folder)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=home, ignore_cleanup_errors=True) as made:
        lock = _locked(Path(made))
        try:
            yield Path(made)
        finally:
            os.close(lock)


def _locked(folder: Path) -> int:
    # It gets its name once it is locked, so that nobody finds it free while its process lives.
    draft = os.open(folder / f"{LOCK}-draft", os.O_CREAT | os.O_WRONLY)
    if fcntl is not None:
        fcntl.flock(draft, fcntl.LOCK_EX)
        os.rename(folder / f"{LOCK}-draft", folder / LOCK)
    return draft


def _sweep(folder: Path) -> None:
    if fcntl is None or folder.is_symlink():
        return
    try:
        lock = os.open(folder / LOCK, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(lock)
