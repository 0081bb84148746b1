"""Hooks that jump the queue, and inner ones that do not leave the outer alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


def _at_every_point(boot: Boot, add: Callable[..., Any]) -> None:
    """Let `add(inner, ...)` hang up hooks at all points."""

    def defect(bridge: Any) -> None:
        for point in bridge.hook_points():
            around(point, "add_hook", add)

    on_bridge(boot, defect)


@mutant(kills="hooks/sequence")
def prepend_ignored(boot: Boot) -> None:
    """`prepend=True` is taken and has no effect (TransformerLens #1680: keywords that fall through)."""

    def add(inner: Callable[..., Any], *args: Any, prepend: bool = False, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    _at_every_point(boot, add)


@mutant(kills="hooks/sequence")
def last_come_first_served(boot: Boot) -> None:
    """Every hook is put before those that are there, so that an observer misses the edit made above it."""

    def add(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return inner(*args, **{**kwargs, "prepend": True})

    _at_every_point(boot, add)


@mutant(kills="hooks/contexts")
def inner_ends_the_outer(boot: Boot) -> None:
    """The end of a context takes down the hooks of every context, at all levels (TransformerLens #1636)."""

    def defect(bridge: Any) -> None:
        @contextmanager
        def hooks(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
            with inner(*args, **kwargs) as entered:
                yield entered
            for level in range(bridge.context_level + 1):
                bridge.remove_all_hook_fns(level=level)

        around(bridge, "hooks", hooks)

    on_bridge(boot, defect)


@mutant(kills="hooks/contexts")
def inner_edit_stays(boot: Boot) -> None:
    """What an inner context changed is kept by the model, and the outer one goes on with it."""

    def defect(bridge: Any) -> None:
        @contextmanager
        def hooks(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
            with inner(*args, **kwargs) as entered:
                yield entered
            if bridge.context_level:
                stays = inner(*args, **kwargs)
                stays.__enter__()
                bridge.context_level -= 1
                kept.append(stays)
            else:
                while kept:
                    bridge.context_level += 1
                    kept.pop().__exit__(None, None, None)

        kept: list[Any] = []
        around(bridge, "hooks", hooks)

    on_bridge(boot, defect)
