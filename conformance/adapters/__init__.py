"""The known adapters: specs by name, from entry points, or by dotted path."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from importlib.metadata import entry_points

from .. import spec
from ..spec import AdapterSpec, in_one_line, nearest

GROUP = "conformance.adapters"


class UnknownAdapter(ValueError):
    """A name or dotted path that leads to no spec; the message says what there is."""


def names() -> list[str]:
    """Names of every installed spec, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def resolve(requested: Sequence[str | AdapterSpec]) -> list[AdapterSpec]:
    """Specs for names, comma lists, `all`, `module:SPEC` and specs themselves, each once, in the order asked for.

    Raises:
        UnknownAdapter: for an empty request, an unknown name, or a path that is no spec.
    """
    return [name if isinstance(name, AdapterSpec) else _resolve(name) for name in expanded(requested)]


def expanded(requested: Sequence[str | AdapterSpec]) -> list[str | AdapterSpec]:
    """The same as single names, paths and specs, each once; UnknownAdapter for an empty name."""
    wanted: list[str | AdapterSpec] = []
    for part in requested:
        for name in [part] if isinstance(part, AdapterSpec) else map(str.strip, part.split(",")):
            if not name:
                raise UnknownAdapter(f"--adapter got an empty name; known: {', '.join(names())}")
            wanted += names() if name == "all" else [name]
    return list(_once(wanted))


def _once(wanted: Iterable[str | AdapterSpec]) -> Iterator[str | AdapterSpec]:
    """Each once; specs hold what cannot be hashed."""
    seen: set[str | int] = set()
    for item in wanted:
        key = item if isinstance(item, str) else id(item)
        if key not in seen:
            seen.add(key)
            yield item


def _resolve(name: str) -> AdapterSpec:
    if ":" in name:
        return _imported(name, name)
    paths = sorted({point.value for point in entry_points(group=GROUP, name=name)})
    if len(paths) > 1:
        raise UnknownAdapter(f"--adapter {name}: installed more than once; say which of {', '.join(paths)}")
    if paths:
        return _imported(name, paths[0])
    near = difflib.get_close_matches(name, names(), n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise UnknownAdapter(f"--adapter: unknown adapter {name!r}{hint} (known: {', '.join(names())}, or module:SPEC)")


def _imported(asked: str, path: str) -> AdapterSpec:
    name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UnknownAdapter(
            f"--adapter {asked}: no module {error.name!r}; install it, or say where it lies, as in PYTHONPATH=. pytest"
        ) from None
    except (Exception, SystemExit) as error:
        raise UnknownAdapter(
            f"--adapter {asked}: importing {name!r} raised {in_one_line(error)}{_meant(error)}"
        ) from None
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise UnknownAdapter(f"--adapter {asked}: module {name!r} has no {attribute!r}; name its AdapterSpec") from None
    if not isinstance(found, AdapterSpec):
        raise UnknownAdapter(f"--adapter {asked}: {attribute!r} is a {type(found).__name__}, want an AdapterSpec")
    if found.module not in sys.modules:
        raise UnknownAdapter(
            f"--adapter {asked}: its spec says module {found.module!r}, which is none; write module=__name__"
        )
    return found


def _meant(error: BaseException) -> str:
    """What to write instead, when a class of `spec` was called with a field that it does not have, or without one."""
    if "AdapterSpec.__init__() missing" in str(error):
        return "; docs/new-adapter.md says what to write there"
    if re.match(r"'(Layout|Span|Branch|Limit)' object is not iterable", str(error)):
        return "; a tuple of one ends with a comma: (it,)"
    if "has no attribute 'formula'" in str(error):
        return "; where a spec wants a size, write Size('2*n')"
    misspelt = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    kind = getattr(spec, misspelt[1], None) if misspelt else None
    return nearest(misspelt[2], [field.name for field in fields(kind)]) if misspelt and kind else ""
