"""Runs that several checks share: one forward each, with options that do not get into each other's way.

Forwards are what a check costs, so one run serves an option that changes what is returned, another that changes
how entries are kept, and a filter. Each check reads its own part of what came of it.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from ...pair import Pair

T = TypeVar("T")

KEYWORDS: Mapping[str, Any] = {"return_type": "logits_and_cache", "prepend_bos": False, "padding_side": "left"}
"""Public keywords of a forward that make sense with tokens; the first can be seen in what is returned."""

LAST = -1
"""One position, as an int."""


@dataclass(frozen=True, slots=True)
class Run:
    """What `run_with_cache` made of one call.

    `returned` and `cache` are its two results, `fired` the hooks that fired meanwhile, in order, `asked` the
    spellings that its filter named, `wanted` the hooks that these stand for.
    """

    returned: Any
    cache: Any
    fired: tuple[str, ...] = ()
    asked: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()

    @property
    def entries(self) -> dict[str, Tensor]:
        """Entries that are tensors."""
        from torch import Tensor

        return {name: value for name, value in self.cache.items() if isinstance(value, Tensor)}


@dataclass(frozen=True, slots=True)
class Stop:
    """A run that was to stop at a layer: `before` are the hooks that fire up to there, in order."""

    layer: int
    run: Run
    want: Tensor
    before: tuple[str, ...]
    shared: list[tuple[str, str]] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Offload:
    """A run whose cache was to go to another device; where the model was before and after."""

    run: Run
    before: Mapping[str, str]
    after: Mapping[str, str]


def once(run: Callable[[Pair], T]) -> Callable[[Pair], T]:
    """Let one call of `run` serve all checks of a pair; it is kept where the pair keeps its recordings."""

    @wraps(run)
    def kept(pair: Pair) -> T:
        if run not in pair.shelf:
            pair.shelf[run] = run(pair)
        found: T = pair.shelf[run]
        return found

    return kept


@once
def again(pair: Pair) -> Run:
    """The run of `pair.cached` once more, its entries as they came."""
    return _run(pair)


@once
def from_the_start(pair: Pair) -> Stop:
    """Stopped at layer 0, which a careless test takes for "not at all"; asked for by one canonical name."""
    first, _ = ends(pair)
    return _stopped(pair, 0, {first}, first)


@once
def before_the_last(pair: Pair) -> Stop:
    """Stopped at the last layer, counted from the end; asked for by one alias."""
    alias = next((name for hook in dict.fromkeys(pair.observed.order) for name in _aliases(pair, hook)), ends(pair)[0])
    return _stopped(pair, -1, {alias}, alias)


@once
def to_the_end(pair: Pair) -> Stop:
    """Stopped where nothing is left to run; a predicate leaves out the last hook. Its cache is dropped."""
    from ... import memory

    _, last = ends(pair)
    asked = {name for name in pair.cached[1] if pair.canonical(name) in set(pair.observed.taps) - {last}}
    stop = _stopped(pair, pair.boot.layers, asked, asked.__contains__)
    entries = stop.run.entries
    shared = memory.shared(again(pair).entries, entries)
    watched = {name: weakref.ref(value) for name, value in entries.items()}
    stop = replace(stop, run=replace(stop.run, cache=dict.fromkeys(entries)), shared=shared)
    # Whatever still holds an entry when the last name for it is gone holds it for good.
    del entries
    gc.collect()
    return replace(stop, alive=[name for name, entry in watched.items() if entry() is not None])


@once
def offloaded(pair: Pair) -> Offload:
    """Moved to another device, as a plain dict; a list leaves out the last hook and names one by its alias."""
    _, last = ends(pair)
    hooks = [hook for hook in dict.fromkeys(pair.observed.order) if hook != last]
    alias = next(((hook, name) for hook in hooks for name in _aliases(pair, hook)), ("", ""))
    asked = [alias[1] if hook == alias[0] else hook for hook in hooks]
    before = _devices(pair.boot.bridge)
    run = _run(pair, asked, names_filter=asked, device="meta", return_cache_object=False)
    return Offload(run, before, _devices(pair.boot.bridge))


@once
def sliced(pair: Pair) -> Run:
    """A range of positions, inside the part of the stream that a hook with several firings sees."""
    return _copied(_run(pair, pos_slice=span(pair)))


@once
def at_the_last_position(pair: Pair) -> Run | str:
    """One position, with public keywords of a forward; the error where these are refused."""
    from ...pair import SubjectRaised

    try:
        return _copied(_run(pair, pos_slice=LAST, **KEYWORDS))
    except SubjectRaised as error:
        return str(error)


def span(pair: Pair) -> tuple[int, int]:
    """First position and end of the range that is sliced."""
    part = pair.length // max((1, *pair.layout.fires.values()))
    return part // 4, part // 4 + part // 2


def ends(pair: Pair) -> tuple[str, str]:
    """The hooks that fire first and last."""
    from ...pair import SubjectRaised

    if not pair.observed.order:
        raise SubjectRaised("no hook fires")
    return pair.observed.order[0], pair.observed.order[-1]


def _copied(run: Run) -> Run:
    """With entries that no later run can overwrite, and that keep nothing but themselves."""
    return replace(run, cache={name: value.clone() for name, value in run.entries.items()})


def _aliases(pair: Pair, hook: str) -> list[str]:
    return [name for name, point in pair.boot.bridge.hook_dict.items() if point.name == hook != name]


def shown(pair: Pair, name: str) -> Tensor:
    """What observers saw at a hook, by any of its names; a hook that is silent is the bridge's fault."""
    from ...pair import SubjectRaised

    if pair.canonical(name) not in pair.observed.taps:
        raise SubjectRaised(f"{name} does not fire")
    return pair.observed.joined(pair.canonical(name))


def _devices(bridge: Any) -> dict[str, str]:
    """Where every parameter and buffer lies, and where the config says that the model is."""
    from ...memory import parameters_and_buffers

    tensors = parameters_and_buffers(bridge.original_model)
    return {"cfg.device": str(bridge.cfg.device)} | {name: str(value.device) for name, value in tensors.items()}


def _run(pair: Pair, asked: Any = (), **options: Any) -> Run:
    from torch import Tensor

    from ...pair import SubjectRaised

    # Tokens of its own: an entry that is the input itself would lie in one place in every run.
    inputs = {name: value.clone() if isinstance(value, Tensor) else value for name, value in pair.inputs.items()}
    got = pair.guarded(pair.boot.bridge.run_with_cache, inputs, **options)
    if not isinstance(got, tuple) or len(got) != 2 or not hasattr(got[1], "items"):
        raise SubjectRaised("run_with_cache did not return logits and a cache")
    return Run(*got, asked=frozenset(asked), wanted=frozenset(map(pair.canonical, asked)))


def _stopped(pair: Pair, layer: int, asked: set[str], names_filter: Any) -> Stop:
    """Run up to a layer, with an observer at every hook."""
    from torch import Tensor

    from ...pair import blamed_on_subject

    fired: list[str] = []

    def observe(shown: object, hook: Any) -> None:
        # What is no tensor is not in the order of the hooks; hooks/fires speaks of it.
        if isinstance(shown, Tensor):
            fired.append(hook.name)

    with blamed_on_subject(), pair.boot.bridge.hooks(fwd_hooks=[(set(pair.names).__contains__, observe)]):
        run = _run(pair, asked, names_filter=names_filter, stop_at_layer=layer)
    run = replace(run, fired=tuple(fired))
    if layer == pair.boot.layers:
        return Stop(layer, run, pair.cached[0], tuple(pair.observed.order))
    stream = pair.entering(layer % pair.boot.layers)
    want = shown(pair, stream)
    upto = pair.observed.order.index(stream) + 1
    return Stop(layer, run, want, tuple(pair.observed.order[:upto]))
