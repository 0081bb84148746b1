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


@mutant(kills="hooks/removal")
def attached_before_the_failure(boot: Boot) -> None:
    """A list of hooks is attached one by one, and those before a misspelt name are never taken down again."""
    kept: list[Any] = []

    @contextmanager
    def hooks(
        inner: Callable[..., Any], fwd_hooks: Any = (), bwd_hooks: Any = (), *args: Any, **options: Any
    ) -> Iterator[Any]:
        opened = [inner([hook], [], *args, **options) for hook in fwd_hooks]
        opened += [inner([], [hook], *args, **options) for hook in bwd_hooks]
        for context in opened:
            context.__enter__()
            kept.append(context)
        try:
            yield
        finally:
            for context in reversed(opened):
                context.__exit__(None, None, None)

    on_bridge(boot, lambda bridge: around(bridge, "hooks", hooks))


@mutant(kills="hooks/removal")
def level_left_open(boot: Boot) -> None:
    """`hooks()` goes one level deeper and does not come back, so that `reset_hooks(level=...)` finds nothing."""

    def defect(bridge: Any) -> None:
        @contextmanager
        def hooks(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
            with inner(*args, **kwargs) as entered:
                yield entered
            bridge.context_level += 1

        around(bridge, "hooks", hooks)

    on_bridge(boot, defect)


@mutant(kills="hooks/removal")
def capture_left_in_the_model(boot: Boot) -> None:
    """`run_with_cache` hangs a hook on the model below the bridge and leaves it (TransformerLens PR #1426)."""

    def defect(bridge: Any) -> None:
        def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            bridge.original_model.register_forward_hook(lambda module, given, output: None)
            return inner(*args, **kwargs)

        around(bridge, "run_with_cache", run_with_cache)

    on_bridge(boot, defect)


@mutant(kills="hooks/reset")
def resets_forward_only(boot: Boot) -> None:
    """`reset_hooks` takes forward hooks down, unless asked for more (TransformerLens #1323)."""

    def reset(inner: Callable[..., Any], *args: Any, direction: str = "fwd", **kwargs: Any) -> None:
        inner(*args, direction=direction, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "reset_hooks", reset))


@mutant(kills="hooks/reset")
def resets_no_context(boot: Boot) -> None:
    """`reset_hooks` leaves what hooks kept in their contexts to the hooks of the next experiment."""

    def reset(inner: Callable[..., Any], *args: Any, clear_contexts: bool = True, **kwargs: Any) -> None:
        inner(*args, clear_contexts=False, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "reset_hooks", reset))


@mutant(kills="hooks/permanent")
def permanent_for_one_run(boot: Boot) -> None:
    """`reset_hooks` takes permanent hooks down with all others."""

    def reset(inner: Callable[..., Any], *args: Any, including_permanent: bool = True, **kwargs: Any) -> None:
        inner(*args, including_permanent=including_permanent, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "reset_hooks", reset))


@mutant(kills="hooks/permanent")
def mirrors_among_the_users_hooks(boot: Boot) -> None:
    """The bridge shows one tensor through a permanent hook at another, which goes when a user takes down their own.

    TransformerLens does so for the MLP of models that have no module for it.
    """
    name = boot.spec.branches[0].raw.replace("{layer}", "0")

    def mirror(tensor: Any, hook: Any) -> None:
        """Where the other hook would fire."""

    on_bridge(boot, lambda bridge: bridge.add_perma_hook(name, mirror))


@mutant(kills="hooks/ctx")
def empty_in_every_run(boot: Boot) -> None:
    """A forward begins by clearing the contexts, in which a hook had kept a tensor for this very run."""

    def defect(bridge: Any) -> None:
        def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            bridge.clear_contexts()
            return inner(*args, **kwargs)

        around(bridge, "forward", forward)

    on_bridge(boot, defect)
