"""The bounds of a checkpoint: its config, its code and its tokenizer lie in its own folder, or it is refused.

A user who trusts the code of a folder has looked at that folder, and at nothing that it points to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OWN = re.compile(r"\w+\.\w+")
"""A class of a file in the same folder, as `auto_map` names it; one of another repository is OWNER/NAME--FILE.CLASS."""

DATA = {".safetensors"}
"""What is only read as numbers may lie on another disk."""


def links_out(folder: Path) -> Iterator[tuple[Path, str]]:
    """Links below a folder to what lies outside it, and where they lead; the hub cache links to its own blobs."""
    homes = [os.path.realpath(folder)]
    if folder.parent.name == "snapshots":
        homes.append(os.path.realpath(folder.parents[1] / "blobs"))
    for path in sorted(folder.rglob("*")):
        target = os.path.realpath(path)
        inside = any(Path(target).is_relative_to(home) for home in homes)
        if path.is_symlink() and path.suffix not in DATA and not inside:
            yield path, target


def classes_elsewhere(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Entries of an `auto_map` that name no class of a file beside it; transformers would fetch and run that."""
    named = settings.get("auto_map")
    for auto, classes in named.items() if isinstance(named, dict) else [("AutoTokenizer", named)]:
        for one in classes if isinstance(classes, list) else [classes]:
            if one is not None and not OWN.fullmatch(str(one)):
                yield str(auto), str(one)
