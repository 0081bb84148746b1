"""Filters that are ignored, and typos that no one hears of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import Entries, around, caching, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="cache/filters")
def ignores_predicates(boot: Boot) -> None:
    """A predicate given as `names_filter` is ignored, and everything is kept (TransformerLens PR #1724)."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, names_filter: Any = None, **kwargs: Any) -> Any:
        return inner(*args, names_filter=None if callable(names_filter) else names_filter, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/filters")
def alias_under_another_name(boot: Boot) -> None:
    """An alias given as `names_filter` is looked up, and the entry is there under the canonical name alone."""

    def change(entries: Entries, options: Entries) -> Entries:
        asked = options.get("names_filter")
        return {name: value for name, value in entries.items() if name != asked or len(entries) == 1}

    caching(boot, change)


@mutant(kills="cache/filter-typo")
def empty_for_a_typo(boot: Boot) -> None:
    """A misspelt name yields an empty cache and no error."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, names_filter: Any = None, **kwargs: Any) -> Any:
        one = isinstance(names_filter, str)
        return inner(*args, names_filter=(lambda name: name == names_filter) if one else names_filter, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/filter-typo")
def nameless_error(boot: Boot) -> None:
    """A misspelt name raises an error that does not say which name of the list it was."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return inner(*args, **kwargs)
        except KeyError:
            raise KeyError("some names matched no hook points") from None

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/filter-dead-name")
def zeros_for_what_is_dead(boot: Boot) -> None:
    """A hook that did not fire has an entry of zeros, so that every name of the list is there."""

    def change(entries: Entries, options: Entries) -> Entries:
        import torch

        asked = options.get("names_filter") if "stop_at_layer" in options else None
        return {name: torch.zeros(1) for name in (asked if isinstance(asked, list) else ())} | entries

    caching(boot, change)
