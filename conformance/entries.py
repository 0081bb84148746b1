"""TOML files of entries that people write: ledgers, overrides, proofs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def table(path: Path, refused: type[ValueError], label: str = "") -> dict[str, Any]:
    """What stands in a file; nothing where there is none.

    Raises:
        ValueError: of the kind `refused`, in one line that names the file behind its label: it cannot be read.
    """
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refused(f"{label}{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise refused(f"{label}{path}: cannot be read: {error.strerror}") from None
