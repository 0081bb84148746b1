"""Whether a folder still is what it was: by a seal, the digest of all that was put there, or by its files' stamps."""

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


def stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What tells that a file which a run reads was written anew, without reading it; empty where there is no folder."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        read = path.suffix in {".py", ".safetensors"} or path.name in ("config.json", "model.safetensors.index.json")
        if (read or path.name.startswith("tokenizer")) and path.is_file():
            status = path.stat()
            found[path.name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _digest(folder: Path) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest().encode()
