"""Points of a draft: what an adapter says its components stand for, held against the model's own modules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..booting import mapping_of
from ..booting import named as at_path
from . import words
from .folder import DraftError, Folder

LAYER = "blocks.{layer}"


@dataclass(frozen=True, slots=True)
class Pairing:
    """Points, components whose module is nowhere, and modules with parameters of their own that no point is for."""

    points: Mapping[str, str]
    absent: tuple[str, ...]
    spare: tuple[str, ...]


def adapter_class(folder: Folder, named: str | None) -> type:
    """The class under test, the one named or TransformerLens's for the architecture; DraftError where there is none."""
    if named is None:
        from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

        if folder.architecture not in SUPPORTED_ARCHITECTURES:
            raise DraftError(
                f"--model {folder.path}: TransformerLens ships no adapter for {folder.architecture}; "
                "name yours with --adapter module:Class"
            )
        shipped: type = SUPPORTED_ARCHITECTURES[folder.architecture]
        return shipped
    try:
        found = at_path(named)
    except (ImportError, AttributeError, ValueError) as error:
        raise DraftError(
            f"--adapter {named}: {error}; write module:Class, and say where it lies, as in PYTHONPATH=."
        ) from None
    if not isinstance(found, type):
        raise DraftError(f"--adapter {named}: is a {type(found).__name__}, want the class of an adapter")
    return found


def proposed(adapter: type, folder: Path, overrides: Mapping[str, object]) -> dict[str, str]:
    """Components of an adapter and the paths that it gives them, by the names that a bridge would have."""
    return dict(_walked(mapping_of(adapter, folder, overrides), "", ""))


def _walked(components: Mapping[str, Any], above: str, path: str) -> Iterator[tuple[str, str]]:
    for name, component in components.items():
        own = ".".join(filter(None, (path, component.name)))
        ours = ".".join(filter(None, (above, name)))
        if not above and name == "blocks":
            own, ours = f"{own}.{{layer}}", LAYER
        # A component without a module of its own only holds others.
        if component.name:
            yield ours, own
        yield from _walked(component.submodules, ours, own)


def pair(proposals: Mapping[str, str], model: nn.Module, layers: int) -> Pairing:
    """Proposals that the model has modules for; a path of only some layers ends in "?"."""
    points, absent = {}, []
    known = {name for name, _ in model.named_modules()}
    for ours, theirs in proposals.items():
        there = [theirs.replace("{layer}", str(layer)) in known for layer in range(layers)]
        if any(there):
            points[ours] = theirs if all(there) else f"{theirs}?"
        else:
            absent.append(f"{ours} ({theirs})")
    covered = {path.rstrip("?").replace("{layer}", str(layer)) for path in points.values() for layer in range(layers)}
    bare = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters(False))]
    above = points.get(LAYER, "").replace(".{layer}", "")
    spare = {_pattern(name, above) for name in bare if name not in covered}
    return Pairing(points, tuple(absent), tuple(sorted(spare)))


def _pattern(path: str, blocks: str) -> str:
    """A module's path, the same for every layer and every one of a list."""
    path = re.sub(rf"^{re.escape(blocks)}\.\d+\.", f"{blocks}.{{layer}}.", path) if blocks else path
    return re.sub(r"\.\d+(?=\.)", ".*", path)


def out_of_order(points: Mapping[str, str], model: nn.Module, call: Any) -> list[str]:
    """Points that a forward passes before one that comes earlier in most transformers, as "ln2 before attn.q"."""
    wanted = words.IN_ORDER
    paths = {points[name].rstrip("?").replace("{layer}", "0"): name for name in wanted if name in points}
    fired: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=paths[path]: fired.append(name))
        for path, module in model.named_modules()
        if path in paths
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    first = list(dict.fromkeys(fired))
    expected = [name for name in wanted if name in first]
    return [f"{got} where {want} is expected" for got, want in zip(first, expected, strict=True) if got != want]
