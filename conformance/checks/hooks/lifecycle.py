"""Lifecycle: hooks come, run in turn, and go, and take nothing with them. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...pair import Pair
    from ...subject import Boot


NOWHERE = "blocks.0.no_such_component.hook_out"


def any_hook(pair: Pair, floating: bool = False) -> str:
    """The first hook to fire, or to fire with numbers that can be edited."""
    from ...pair import SubjectRaised

    for name, (value, *_) in pair.observed.taps.items():
        if value.is_floating_point() or not floating:
            return name
    raise SubjectRaised("no hook fires anywhere")


@requirement("hooks/removal", level=MUST)
def removal(pair: Pair) -> Iterator[Finding]:
    """Hooks of `run_with_hooks`, `hooks()` and `run_with_cache` MUST be gone afterwards, at the bridge's points and in
    the model below them, also after an exception or when one of them cannot be attached, and take no other with them.

    A hook that stays behind edits the next experiment; one that is torn down with them silently ends its own.
    """
    from ...pair import SubjectRaised

    bridge = pair.boot.bridge
    if not pair.names:
        raise SubjectRaised("no hook can be attached anywhere")
    for label, attempt in _attempts(pair).items():
        bridge.add_hook(pair.names[0], _look)
        before = _attached(pair.boot)
        try:
            # A bridge may say that it takes backward hooks down before they can fire, which is not the question here.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                attempt()
        except SubjectRaised as error:
            if "on purpose" not in str(error):
                raise
        finally:
            after = _attached(pair.boot)
            bridge.reset_hooks()
        for name in [name for name in after if after[name] != before[name]][:1]:
            if sum(after[name]) > sum(before[name]):
                yield Finding("left-behind", name, got="one too many", want="none left", case=f"after {label}")
            else:
                yield Finding("torn-down", name, got="no hook", want="the user's own", case=f"after {label}")


def _attempts(pair: Pair) -> dict[str, Callable[[], object]]:
    """Every way to hang hooks for one run: forward, backward, ending in an exception, and not even beginning."""
    bridge, name = pair.boot.bridge, pair.names[-1]
    both: dict[str, Any] = {"fwd_hooks": [(name, _look)], "bwd_hooks": [(name, _look)]}

    def explode(tensor: Any, hook: Any) -> None:
        raise RuntimeError("on purpose")

    raising: dict[str, Any] = {"fwd_hooks": [(pair.names[0], explode)]}
    broken: dict[str, Any] = {**both, "bwd_hooks": [(name, _look), (NOWHERE, _look)]}

    def context(hooks: dict[str, Any], error: Exception | None = None) -> None:
        # Whether an unknown name is refused, and how, is another requirement's to say.
        with contextlib.suppress(Exception), bridge.hooks(**hooks):
            if error is not None:
                raise error

    def unbegun() -> None:
        with contextlib.suppress(Exception):
            pair.refused(bridge.run_with_hooks, **broken)

    return {
        "run_with_hooks": lambda: pair.guarded(bridge.run_with_hooks, pair.row, **both),
        "run_with_hooks, raising": lambda: pair.guarded(bridge.run_with_hooks, pair.row, **raising),
        "run_with_hooks, with an unknown name": unbegun,
        "run_with_cache": lambda: pair.guarded(bridge.run_with_cache, pair.row),
        "hooks()": lambda: context(both),
        "hooks(), raising": lambda: context(both, RuntimeError("on purpose")),
        "hooks(), with an unknown name": lambda: context(broken),
    }


def _attached(boot: Boot) -> dict[str, tuple[int, ...]]:
    """Hooks at every point, in TransformerLens's own lists and in torch's below them, and in the remote model."""
    from ...components import natives

    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    lists = ("fwd_hooks", "bwd_hooks", *kinds)
    found = {name: tuple(len(getattr(p, kind)) for kind in lists) for name, p in boot.bridge.hook_dict.items()}
    for path, module, _ in natives(boot.bridge.original_model, boot.reference):
        found[f"original_model.{path}".rstrip(".")] = tuple(len(getattr(module, kind)) for kind in kinds)
    return {**found, "context_level": (boot.bridge.context_level,)}


@requirement("hooks/reset", level=MUST, needs=("hooks/fires",))
def reset(boot: Boot) -> Iterator[Finding]:
    """`reset_hooks` MUST take down the hooks of both directions at every point and clear their contexts, or those of
    the one direction it is asked for.

    Every notebook begins with it, to be sure of an untouched model (TransformerLens #1323 left backward hooks).
    """
    bridge, pair = boot.bridge, next(iter(boot.pairs.values()))
    names = {any_hook(pair), *pair.observed.taps}
    before = _attached(boot)

    def attach() -> None:
        for direction in ("fwd", "bwd"):
            bridge.add_hook(names.__contains__, _look, dir=direction)

    attach()
    for name in names:
        bridge.hook_dict[name].ctx["kept"] = True
    bridge.reset_hooks()
    after = _attached(boot)
    yield from _first("left-behind", [n for n in after if after[n] != before[n]], "hooks", "none")
    yield from _first("context-left", [n for n in sorted(names) if bridge.hook_dict[n].ctx], "a context", "none")

    attach()
    bridge.reset_hooks(direction="fwd")
    half = {name: (len(bridge.hook_dict[name].fwd_hooks), len(bridge.hook_dict[name].bwd_hooks)) for name in names}
    bridge.reset_hooks(direction="both", clear_contexts=True)
    for name in sorted(names):
        wanted = (before[name][0], before[name][1] + 1)
        if half[name] != wanted:
            got, want = (f"{fwd} forward, {bwd} backward" for fwd, bwd in (half[name], wanted))
            yield Finding("wrong-direction", name, got=got, want=want, case='direction="fwd"')
            break


def _first(code: str, names: list[str], got: str, want: str) -> Iterator[Finding]:
    """One finding for all of the names, at the first."""
    if names:
        yield Finding(code, names[0], got=f"{got}, here and at {len(names) - 1} more", want=want)


@requirement("hooks/permanent", level=MUST, needs=("hooks/fires",))
def permanent(boot: Boot) -> Iterator[Finding]:
    """A permanent hook MUST outlive `reset_hooks` and go with `including_permanent=True`, and those that the bridge
    itself hung up outlive both.

    A probe for a whole study is hung up once; some bridges show an MLP through permanent hooks of their own.
    """
    from ...pair import blamed_on_subject

    pair = next(iter(boot.pairs.values()))
    name, fired = any_hook(pair), list[str]()
    with blamed_on_subject():
        bridge = boot.boot_again()
        own = _permanent(bridge)
        bridge.add_perma_hook(name, lambda tensor, hook: fired.append(hook.name))
        bridge.reset_hooks()
    pair.guarded(bridge, pair.row)
    if not fired:
        yield Finding("torn-down", name, got="silent after reset_hooks()", want="a permanent hook that fires")
    bridge.reset_hooks(including_permanent=True)
    now = _permanent(bridge)
    if now.get(name, 0) > own.get(name, 0):
        yield Finding("left-behind", name, got="still there", want="gone with including_permanent=True")
    lost = [name for name in own if now.get(name, 0) < own[name]]
    yield from _first("own-torn-down", lost, "gone with including_permanent=True", "the bridge's own hook")


def _permanent(bridge: Any) -> dict[str, int]:
    """Points with permanent hooks, and how many."""
    counts = {
        name: sum(handle.is_permanent for handle in (*point.fwd_hooks, *point.bwd_hooks))
        for name, point in bridge.hook_dict.items()
    }
    return {name: count for name, count in counts.items() if count}


@requirement("hooks/ctx", level=MUST, needs=("hooks/fires",))
def ctx(boot: Boot) -> Iterator[Finding]:
    """What is kept in `hook.ctx` MUST be there in later runs, until `clear_contexts` empties it.

    Hooks that work together, such as a forward and a backward one, have no other place to leave a tensor.
    """
    bridge, pair = boot.bridge, next(iter(boot.pairs.values()))
    name = any_hook(pair)
    seen: list[object] = []
    bridge.add_hook(name, lambda tensor, hook: seen.append(hook.ctx.get("kept")))
    try:
        bridge.hook_dict[name].ctx["kept"] = "kept"
        pair.call(pair.row)
        if set(seen) != {"kept"}:
            yield Finding("lost", name, got="an empty context", want="what was kept before the run")
        bridge.clear_contexts()
        if bridge.hook_dict[name].ctx:
            yield Finding("context-left", name, got="a context", want="none after clear_contexts()")
    finally:
        bridge.reset_hooks()


def _look(tensor: Any, hook: Any) -> None:
    """Hook that changes nothing."""
