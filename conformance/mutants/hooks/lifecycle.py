"""Hooks that stay behind, or that go with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/removal")
def left_after_an_exception(boot: Boot) -> None:
    """`hooks()` takes its hooks down at the end of the block, which an exception never reaches."""

    contexts: list[Any] = []

    @contextmanager
    def hooks(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        contexts.append(inner(*args, **kwargs))
        yield contexts[-1].__enter__()
        contexts[-1].__exit__(None, None, None)

    on_bridge(boot, lambda bridge: around(bridge, "hooks", hooks))


@mutant(kills="hooks/removal")
def backward_hooks_stay(boot: Boot) -> None:
    """Only forward hooks are taken down (TransformerLens #1323)."""

    def remove(inner: Callable[..., Any], point: Any, direction: str, handle: Any) -> None:
        if direction == "fwd":
            inner(point, direction, handle)

    on_bridge(boot, lambda bridge: around(bridge, "_remove_temporary_hook", remove))


@mutant(kills="hooks/removal")
def tears_down_the_users_hooks(boot: Boot) -> None:
    """`run_with_cache` takes down every hook there is, the user's own included (TransformerLens #1636)."""

    def defect(bridge: Any) -> None:
        def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            got = inner(*args, **kwargs)
            bridge.reset_hooks()
            return got

        around(bridge, "run_with_cache", run_with_cache)

    on_bridge(boot, defect)
