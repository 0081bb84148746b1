"""Components of a bridge, and the modules of the remote model that they wrap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def at(root: Any, path: str) -> Any:
    """The object at a dotted path, through wrapped components where a step is not an attribute of the wrapper."""
    for step in path.split("."):
        inner = unwrapped(root)
        if hasattr(root, step):
            root = getattr(root, step)
        elif step.isdigit():
            root = inner[int(step)] if hasattr(inner, "__getitem__") else None
        else:
            root = getattr(inner, step, None)
        if root is None:
            return None
    return root


def unwrapped(module: Any) -> Any:
    """The remote module below however many wrappers."""
    while getattr(module, "original_component", None) is not None:
        module = module.original_component
    return module


def natives(model: Any, reference: Any) -> Iterator[tuple[str, Any, Any]]:
    """The remote model's own modules without their wrappers, by path, each with the same one of the reference."""
    for path, same in reference.named_modules():
        found = unwrapped(at(model, path) if path else model)
        if found is not None:
            yield path, found, unwrapped(same)


def own_name(name: str) -> str:
    """The remote model's own name of a module or parameter that a bridge has wrapped."""
    return ".".join(part for part in name.split(".") if part != "_original_component")


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Parameters by the remote model's own names, each once."""
    return {own_name(name): value for name, value in model.named_parameters()}


def path_of(model: Any, module: Any) -> str:
    """Where a wrapped module stands in the remote model, in the model's own names."""
    wanted = unwrapped(module)
    for name, candidate in model.named_modules():
        if candidate is wanted:
            return own_name(name)
    return type(wanted).__name__
