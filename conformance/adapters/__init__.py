"""The known adapters: specs by name, from entry points, or by dotted path."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points

from ..spec import AdapterSpec

GROUP = "conformance.adapters"


class UnknownAdapter(ValueError):
    """A name or dotted path that leads to no spec; the message says what there is."""


def names() -> list[str]:
    """Names of every installed spec, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def resolve(requested: list[str]) -> list[AdapterSpec]:
    """Specs for names, comma lists, `all` and `module:SPEC`, each once, in the order asked for.

    Raises:
        UnknownAdapter: for an empty request, an unknown name, or a path that is no spec.
    """
    wanted = [part.strip() for text in requested for part in text.split(",")]
    if not all(wanted):
        raise UnknownAdapter(f"--adapter got an empty name; known: {', '.join(names())}")
    wanted = [name for part in wanted for name in (names() if part == "all" else [part])]
    return [_resolve(name) for name in dict.fromkeys(wanted)]


def _resolve(name: str) -> AdapterSpec:
    if ":" in name:
        return _imported(name, name)
    for point in entry_points(group=GROUP):
        if point.name == name:
            return _imported(name, point.value)
    near = difflib.get_close_matches(name, names(), n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise UnknownAdapter(f"--adapter: unknown adapter {name!r}{hint} (known: {', '.join(names())}, or module:SPEC)")


def _imported(asked: str, path: str) -> AdapterSpec:
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UnknownAdapter(
            f"--adapter {asked}: no module {error.name!r}; is it installed, or on PYTHONPATH?"
        ) from None
    except AttributeError:
        raise UnknownAdapter(
            f"--adapter {asked}: module {module!r} has no {attribute!r}; name its AdapterSpec"
        ) from None
    except Exception as error:
        raise UnknownAdapter(
            f"--adapter {asked}: importing {module!r} raised {type(error).__name__}: {error}"
        ) from None
    if not isinstance(found, AdapterSpec):
        raise UnknownAdapter(f"--adapter {asked}: {attribute!r} is a {type(found).__name__}, want an AdapterSpec")
    return found
