"""The text of a drafted spec, in the format that ours have."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping

WIDTH = 120

HEAD = '''"""{architecture}: drafted by `conformance new-adapter`; what `todo` asks is to be answered, line by line.

docs/new-adapter.md says what each field is for.
"""

from pathlib import Path

{imports}

{shim}SPEC = AdapterSpec(
{fields}
)
'''

HOMES = {
    "conformance.oracles.relations": (
        *("block_causal", "block_diffusion_training", "blocks_of", "causal", "everyone", "right_padded"),
    ),
    "conformance.shims": ("default_rope",),
    "conformance.spec": (
        *("NOT_CAUSAL", "AdapterSpec", "Attend", "Layout", "PerRow", "Rotary", "Size", "Span", "Value"),
    ),
}
"""Where the names come from that a spec may use, in the order in which they are imported."""


class Code(str):
    """An expression, as it is to be written."""


def module(architecture: str, fields: Mapping[str, object], shim: str) -> str:
    """A module with the spec, and the function `shim` before it where there is one."""
    lines = "\n".join(f"    {name}={_written(value, 4)}," for name, value in fields.items())
    body = f"AdapterSpec( {shim} {lines}"
    used = {home: [name for name in names if _uses(body, name)] for home, names in HOMES.items()}
    imports = "\n".join(f"from {home} import {', '.join(names)}" for home, names in used.items() if names)
    before = f"\n{shim}\n\n\n" if shim else ""
    return HEAD.format(architecture=architecture, imports=imports, fields=lines, shim=before)


def _uses(body: str, name: str) -> bool:
    """Whether source speaks of a name outside its texts."""
    return re.search(rf"\b{name}\b", re.sub(r'"[^"]*"', '""', body)) is not None


def _written(value: object, indent: int, before: int = 0) -> str:
    """A value as source, behind so many columns; mappings and tuples have an item a line, long texts several."""
    inner, outer = " " * (indent + 4), " " * indent
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, Mapping):
        names = {_text(name): item for name, item in value.items()}
        items = (f"{name}: {_written(item, indent + 4, indent + len(name) + 6)}" for name, item in names.items())
        return f"{{\n{''.join(f'{inner}{item},{chr(10)}' for item in items)}{outer}}}" if names else "{}"
    if isinstance(value, tuple):
        return f"(\n{''.join(f'{inner}{_written(item, indent + 4)},{chr(10)}' for item in value)}{outer})"
    if isinstance(value, str) and before + len(_text(value)) + 3 > WIDTH:
        pieces = textwrap.wrap(value, WIDTH - indent - 6, drop_whitespace=False, break_long_words=False)
        return f"(\n{''.join(f'{inner}{_text(piece)}{chr(10)}' for piece in pieces)}{outer})"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    """A string in the quotes that ruff gives it."""
    return repr(value) if '"' in value and "'" not in value else json.dumps(value, ensure_ascii=False)
