"""Ratios: time that passes in Python, where no operator is dispatched and no function called."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..denoising.sampling import runs_the_bridge, sampling
from ..surgery import around, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot

LONG = 48
"""Tokens; no stream of a miniature has as many, and those at a real size have more."""


def slow(boot: Boot, kind: str, at: Callable[[int], bool] = lambda tokens: tokens > LONG) -> None:
    """Let forwards of one kind of use take three times as long, on streams of some lengths."""
    use: list[str] = []

    def marked(inner: Callable[..., Any], name: Callable[[Any], str], *args: Any, **kwargs: Any) -> Any:
        use.append(name(kwargs))
        try:
            return inner(*args, **kwargs)
        finally:
            use.pop()

    def defect(bridge: Any) -> None:
        def hooked(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return marked(inner, lambda options: "hook", *args, **kwargs)

        def cached(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return marked(inner, lambda options: "filter" if options.get("names_filter") else "cache", *args, **kwargs)

        def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            start = process_time()
            got = inner(*args, **kwargs)
            # The outermost use is the one that a user asked for.
            if [kind] == (use[:1] or ["backward" if got.requires_grad else "forward"]) and at(args[0].shape[1]):
                end = process_time()
                while process_time() < end + 2 * (end - start):
                    pass
            return got

        around(bridge, "run_with_hooks", hooked)
        around(bridge, "run_with_cache", cached)
        around(bridge, "forward", forward)

    on_bridge(boot, defect)
    if boot.spec.sampler is not None:
        sampling(boot, lambda sample, *args, **options: marked(sample, lambda _: "denoising", *args, **options))


@mutant(kills="throughput/ratio")
def waits_in_python(boot: Boot) -> None:
    """A forward on more than a few tokens spends twice as long in Python as in arithmetic."""
    slow(boot, "forward")


@mutant(kills="throughput/hook-ratio")
def waits_for_hooks(boot: Boot) -> None:
    """With a hook anywhere, every point is looked through for it, tensor by tensor."""
    slow(boot, "hook")


@mutant(kills="throughput/cache-ratio")
def caches_slowly(boot: Boot) -> None:
    """A full cache is put into order, value by value, before anyone has asked for one."""
    slow(boot, "cache")


@mutant(kills="throughput/filter-ratio")
def filters_slowly(boot: Boot) -> None:
    """A filter of one name is tried on the values of all hooks instead of on their names."""
    slow(boot, "filter")


@mutant(kills="throughput/backward-ratio")
def traces_its_graph(boot: Boot) -> None:
    """Where gradients are wanted, the bridge walks through its graph in Python, for a picture that no one looks at."""
    slow(boot, "backward")


@mutant(kills="throughput/denoising-ratio")
def samples_slowly(boot: Boot) -> None:
    """A forward of the sampler rebuilds its mask row by row."""
    runs_the_bridge(boot)
    slow(boot, "denoising")
