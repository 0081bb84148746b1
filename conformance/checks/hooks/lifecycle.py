"""Lifecycle: hooks come, run in turn, and go, and take nothing with them. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...pair import Pair


@requirement("hooks/removal", level=MUST)
def removal(pair: Pair) -> Iterator[Finding]:
    """Hooks of `run_with_hooks`, `hooks()` and `run_with_cache` MUST be gone afterwards, also after an exception, and
    take no other hook with them.

    A hook that stays behind edits the next experiment; one that is torn down with them silently ends its own.
    """
    from ...pair import SubjectRaised

    bridge = pair.boot.bridge
    if not pair.names:
        raise SubjectRaised("no hook can be attached anywhere")
    for label, attempt in _attempts(pair).items():
        bridge.add_hook(pair.names[0], _look)
        before = _attached(bridge)
        try:
            attempt()
        except SubjectRaised as error:
            if "on purpose" not in str(error):
                raise
        finally:
            after = _attached(bridge)
            bridge.reset_hooks()
        for name in [name for name in after if after[name] != before[name]][:1]:
            if sum(after[name]) > sum(before[name]):
                yield Finding("left-behind", name, got="a hook too many", want="none left", case=f"after {label}")
            else:
                yield Finding("torn-down", name, got="no hook", want="the user's own", case=f"after {label}")


def _attempts(pair: Pair) -> dict[str, Callable[[], object]]:
    """Every way to hang a hook for one run: forward, backward, and ending in an exception."""
    bridge, name = pair.boot.bridge, pair.names[-1]

    def explode(tensor: Any, hook: Any) -> None:
        raise RuntimeError("on purpose")

    def context() -> None:
        with bridge.hooks(fwd_hooks=[(name, _look)], bwd_hooks=[(name, _look)]):
            pass

    return {
        "run_with_hooks": lambda: pair.guarded(
            bridge.run_with_hooks, fwd_hooks=[(name, _look)], bwd_hooks=[(name, _look)]
        ),
        "run_with_hooks, raising": lambda: pair.guarded(bridge.run_with_hooks, fwd_hooks=[(pair.names[0], explode)]),
        "run_with_cache": lambda: pair.guarded(bridge.run_with_cache),
        "hooks()": context,
        "hooks(), raising": lambda: pair.edited(pair.names[:1], explode),
    }


def _look(tensor: Any, hook: Any) -> None:
    """Hook that changes nothing."""


def _attached(bridge: Any) -> dict[str, tuple[int, ...]]:
    """Hooks at every point, in TransformerLens's own lists and in those of torch below them."""
    kinds = ("fwd_hooks", "bwd_hooks", "_forward_hooks", "_backward_hooks")
    return {name: tuple(len(getattr(point, kind)) for kind in kinds) for name, point in bridge.hook_dict.items()}
