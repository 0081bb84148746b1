"""cache: `run_with_cache` keeps what hooks saw, all of it, and nothing else. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from ..subject import Pair


@requirement("cache/observes", level=MUST)
def observes(pair: Pair) -> Iterator[Finding]:
    """`run_with_cache` MUST return the logits of a plain forward, bit for bit.

    A cache that changes the run describes another model.
    """
    from ..compare import exact

    logits, _ = _cached(pair)
    yield from exact("logits", logits, pair.plain)


@requirement("cache/complete", level=MUST, needs=("hooks/fires",))
def complete(pair: Pair) -> Iterator[Finding]:
    """Every hook that fires MUST be in the cache, under its canonical name and its aliases, and no other.

    A key that is missing ends a notebook; one that is there without a firing misleads it.
    """
    _, cache = _cached(pair)
    fired = {n for n, point in pair.boot.bridge.hook_dict.items() if point.name in pair.observed.taps}
    for name in sorted(fired - set(cache)):
        yield Finding("not-cached", name, got="no entry", want="the value it fired with")
    for name in sorted(set(cache) - fired):
        yield Finding("never-fired", name, got="an entry", want="none: the hook does not fire")


@requirement("cache/keeps-every-firing", level=MUST, needs=("hooks/multiplicity", "cache/complete"))
def keeps_every_firing(pair: Pair) -> Iterator[Finding]:
    """A hook that fires k times MUST have all k values in its cache entry, joined on the position axis in order.

    The entry that keeps only the last firing holds half of the stream and looks like the whole.
    """
    from ..compare import shape_of

    _, cache = _cached(pair)
    for name, calls in pair.observed.taps.items():
        if name in cache and cache[name].shape != (want := pair.observed.joined(name)).shape:
            yield Finding(
                "firing-lost", name, got=shape_of(cache[name]), want=f"{shape_of(want)}: {len(calls)} firings"
            )


@requirement("cache/values", level=MUST, needs=("cache/keeps-every-firing",))
def values(pair: Pair) -> Iterator[Finding]:
    """Every cache entry MUST equal, bit for bit, the value that the hook fired with.

    Modules change tensors in place after a hook has seen them; the entry must not follow.
    """
    from ..compare import exact

    _, cache = _cached(pair)
    for name in pair.observed.taps:
        if name in cache:
            yield from exact(name, cache[name], pair.observed.joined(name))


@requirement("cache/filters", level=MUST, needs=("cache/complete",))
def filters(pair: Pair) -> Iterator[Finding]:
    """`names_filter` MUST keep exactly the hooks asked for, as a string, a list or a predicate.

    Filters decide what fits in memory; one that keeps more or less is noticed late.
    """
    first, last = pair.observed.order[0], pair.observed.order[-1]
    asked: dict[str, Any] = {"string": first, "list": [first, last], "predicate": lambda name: name == last}
    wanted = {"string": {first}, "list": {first, last}, "predicate": {last}}
    for kind, names_filter in asked.items():
        _, cache = _cached(pair, names_filter=names_filter)
        got = {pair.boot.bridge.hook_dict[name].name for name in cache}
        if got != wanted[kind]:
            yield Finding("filter", f"names_filter as a {kind}", got=str(sorted(got)), want=str(sorted(wanted[kind])))


@requirement("cache/filter-typo", level=MUST, needs=("cache/filters",))
def filter_typo(pair: Pair) -> Iterator[Finding]:
    """A name in `names_filter` that is no hook MUST raise an error, alone or among others in a list.

    A typo that is dropped shows up as a missing key hours later, or never.
    """
    from ..subject import SubjectRaised

    typo = pair.observed.order[0] + "_misspelt"
    for kind, names_filter in (("string", typo), ("list", [pair.observed.order[0], typo])):
        try:
            _cached(pair, names_filter=names_filter)
        except SubjectRaised:
            continue
        yield Finding("accepted", f"names_filter as a {kind}", got="a cache without it", want="an error that names it")


@requirement("cache/own-storage", level=MUST, needs=("cache/complete",))
def own_storage(pair: Pair) -> Iterator[Finding]:
    """Every cache entry MUST have memory of its own.

    Changing one entry in place, to make a corrupted run, silently changes its neighbours.
    """
    _, cache = _cached(pair)
    owners: dict[int, str] = {}
    shared = []
    registry = pair.boot.bridge.hook_dict
    for name, value in cache.items():
        owner = owners.setdefault(value.untyped_storage().data_ptr(), name)
        if registry[owner].name != registry[name].name:
            shared.append(f"{owner} and {name}")
    if shared:
        yield Finding(
            "shared-storage", "run_with_cache", got=f"{len(shared)} shared entries, first {shared[0]}", want="none"
        )


def _cached(pair: Pair, **options: Any) -> tuple[Any, Any]:
    logits, cache = pair.guarded(pair.boot.bridge.run_with_cache, **options)
    return logits, cache
