"""Samplers of models whose own class has none: one module for each, told to an observer step by step."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def later(path: str) -> Callable[..., Any]:
    """The function at "module:name" in this package, imported when it is called: a spec imports nothing heavy."""
    module, _, name = path.partition(":")

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(*arguments, **options)

    return call
