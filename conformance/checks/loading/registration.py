"""Registration: the tables in which TransformerLens lists its adapters. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...subject import Boot

FACTORY = "factories.architecture_adapter_factory"
SITES = {
    "__all__": "model_bridge.supported_architectures",
    "SUPPORTED_ARCHITECTURES": FACTORY,
    "HF_SUPPORTED_ARCHITECTURES": "tools.model_registry",
    "CANONICAL_AUTHORS_BY_ARCH": "tools.model_registry",
    "ARCHITECTURE_DESCRIPTIONS": "tools.model_registry.generate_report",
}
"""Tables that name every adapter, each with its module: the class in the first, its architecture in the others."""

Table = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Registered:
    """What TransformerLens says of its adapters: by table, as its source has it, and as this process holds it."""

    written: Mapping[str, Table]
    live: Mapping[str, Table]


@requirement("loading/registration", level=MUST, needs=("loading/boots",))
def registration(boot: Boot) -> Iterator[Finding]:
    """An adapter that TransformerLens ships MUST stand in every table of its adapters, one that a spec brings in none.

    What is missing in one of them boots, and yet is in no list, no registry and no report; what writes itself into one
    answers for every other boot in the process.
    """
    found = registered(boot)
    if boot.spec.adapter is not None:
        yield from _changed(found)
        return
    kind = type(boot.bridge.adapter).__name__
    for table in SITES:
        name = kind if table == "__all__" else boot.spec.architecture
        entry = found.written[table].get(name)
        if entry is None:
            yield Finding("missing", table, got=f"no {name}", want=f"{name} in transformer_lens.{SITES[table]}")
        elif entry in ("[]", "''"):
            yield Finding("empty", table, got=f"nothing on {name}", want="who publishes it, or what it is")
    if found.written["SUPPORTED_ARCHITECTURES"].get(boot.spec.architecture, kind) != kind:
        got = found.written["SUPPORTED_ARCHITECTURES"][boot.spec.architecture]
        yield Finding("another", "SUPPORTED_ARCHITECTURES", got=got, want=f"{kind}, which was booted")


def _changed(found: Registered) -> Iterator[Finding]:
    """One finding per table that this process holds otherwise than its source has it."""
    for table, entries in found.live.items():
        written = found.written[table]
        others = {name for name in entries.keys() | written.keys() if entries.get(name) != written.get(name)}
        if others:
            names = ", ".join(sorted(others)[:3])
            yield Finding("changed", table, got=f"other entries for {names}", want="those of TransformerLens")


def registered(boot: Boot) -> Registered:
    """Read once per boot."""
    found: Registered = boot.__dict__.setdefault("registered", Registered(_written(), _live()))
    return found


@functools.cache
def _written() -> Mapping[str, Table]:
    """Read from the source, as the tools that hold most of the tables take long to import."""
    return {table: _read(module, table) for table, module in SITES.items()}


@functools.cache
def _source(module: str) -> ast.Module:
    spec = importlib.util.find_spec("transformer_lens")
    home = Path(spec.origin if spec and spec.origin else ".").parent.joinpath(*module.split("."))
    path = home / "__init__.py" if home.is_dir() else home.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _read(module: str, table: str) -> Table:
    for node in _source(module).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == table for target in targets):
            return _entries(getattr(node, "value", None))
    return {}


def _entries(node: Any) -> Table:
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key): ast.unparse(value) for key, value in pairs if key is not None}
    return {ast.literal_eval(name): "" for name in getattr(node, "elts", ())}


def _live() -> Mapping[str, Table]:
    """What is imported so far of the same tables; for that of the factory, the copy that it boots from."""
    found: dict[str, Table] = {}
    for table, module in SITES.items():
        imported = sys.modules.get(f"transformer_lens.{module}")
        if imported is not None:
            found[table] = _told(getattr(imported, table))
    factory = sys.modules.get(f"transformer_lens.{FACTORY}")
    if factory is not None:
        installed = {entry.name for entry in entry_points(group="transformer_lens.architectures")}
        held = _told(factory.ArchitectureAdapterFactory._adapters)
        found["SUPPORTED_ARCHITECTURES"] = {name: kind for name, kind in held.items() if name not in installed}
    return found


def _told(held: Mapping[str, Any] | Iterable[str]) -> Table:
    """A live table in the words of its source."""
    if isinstance(held, Mapping):
        return {name: value.__name__ if isinstance(value, type) else repr(value) for name, value in held.items()}
    return dict.fromkeys(held, "")
