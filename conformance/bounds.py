"""The bounds of a checkpoint: its config, its code and its tokenizer lie in its own folder, or it is refused.

A user who trusts the code of a folder has looked at that folder, and at nothing that it points to.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OWN = re.compile(r"\w+\.\w+")
"""A class of a file in the same folder, as `auto_map` names it; one of another repository is OWNER/NAME--FILE.CLASS."""

DATA = {".safetensors"}
"""What is only read as numbers may lie on another disk."""

TOKENIZER = "tokenizer_config.json"
ON_TOP = "adapter_config.json"
LARGEST = 64 * 2**20  # bytes of a JSON file; the index of a model of 671 billion parameters takes 9 million


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says what is wrong with it and what to do."""


def check(folder: Path) -> None:
    """Refuse a folder whose config, code or tokenizer comes from elsewhere; what it names is not looked at."""
    for link, target in _links_out(folder):
        raise CheckpointError(f"{link}: is a link out of its folder, to {target}; put the file itself there")
    if (folder / ON_TOP).exists():
        raise CheckpointError(f"{folder}: holds {ON_TOP}, which goes on top of another model; merge the two first")
    for path in (folder / "config.json", folder / TOKENIZER):
        for auto, named in _classes_elsewhere(json_object(path)) if path.is_file() else ():
            raise CheckpointError(
                f"{path}: auto_map names {named!r} for {auto}; want FILE.CLASS of a Python file in that folder"
            )


def _links_out(folder: Path) -> Iterator[tuple[Path, str]]:
    """Links below a folder to what lies outside it, and where they lead; the hub cache links to its own blobs."""
    homes = [os.path.realpath(folder)]
    if folder.parent.name == "snapshots":
        homes.append(os.path.realpath(folder.parents[1] / "blobs"))
    for path in sorted(folder.rglob("*")):
        # Nothing is imported from a hidden folder, such as a virtual environment's.
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix in DATA or not path.is_symlink():
            continue
        target = os.path.realpath(path)
        if not any(Path(target).is_relative_to(home) for home in homes):
            yield path, target


def _classes_elsewhere(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Entries of an `auto_map` that name no class of a file beside it; transformers would fetch and run that."""
    named = settings.get("auto_map")
    for auto, classes in named.items() if isinstance(named, dict) else [("AutoTokenizer", named)]:
        for one in classes if isinstance(classes, list) else [classes]:
            if one is not None and not OWN.fullmatch(str(one)):
                yield str(auto), str(one)


def json_object(path: Path) -> dict[str, Any]:
    """What stands in a JSON file that holds an object; CheckpointError when none does, or more than anyone needs."""
    if (size := path.stat().st_size) > LARGEST:
        raise CheckpointError(f"{path}: {size} bytes are more than any config or index has; fetch it again")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}; fetch it again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds a JSON {type(found).__name__}, want an object; fetch it again")
    return found
