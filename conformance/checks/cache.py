"""cache: `run_with_cache` keeps what hooks saw, all of it, and nothing else. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

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
        if name not in cache or (cache[name].shape == (want := pair.observed.joined(name)).shape):
            continue
        # TransformerLens keeps the last firing, and notebooks are written around that; another one is another finding.
        other = any(_same(cache[name], call) for call in calls[:-1]) and not _same(cache[name], calls[-1])
        yield Finding(
            "other-firing" if other else "firing-lost",
            name,
            got=shape_of(cache[name]) + (", not even the last firing" if other else ""),
            want=f"{shape_of(want)}: {len(calls)} firings",
        )


@requirement("cache/values", level=MUST, needs=("cache/complete",))
def values(pair: Pair) -> Iterator[Finding]:
    """Every cache entry MUST equal, bit for bit, what the hook fired with: all firings joined, or a whole one of them.

    Modules change tensors in place after a hook has seen them; the entry must not follow.
    """
    from ..compare import exact

    _, cache = _cached(pair)
    for name, entry in cache.items():
        fired = _canonical(pair, name)
        calls = pair.observed.taps.get(fired, [])
        if calls and not any(_same(entry, call) for call in calls):
            yield from exact(name, entry, pair.observed.joined(fired))


@requirement("cache/filters", level=MUST, needs=("cache/complete",))
def filters(pair: Pair) -> Iterator[Finding]:
    """`names_filter` MUST keep exactly the hooks asked for, as a string, a list or a predicate.

    Filters decide what fits in memory; one that keeps more or less is noticed late.
    """
    first, last = _ends(pair)
    asked: dict[str, Any] = {"string": first, "list": [first, last], "predicate": lambda name: name == last}
    wanted = {"string": {first}, "list": {first, last}, "predicate": {last}}
    for kind, names_filter in asked.items():
        _, cache = _cached(pair, names_filter=names_filter)
        got = {_canonical(pair, name) for name in cache}
        if got != wanted[kind]:
            yield Finding("filter", f"names_filter as a {kind}", got=str(sorted(got)), want=str(sorted(wanted[kind])))


@requirement("cache/filter-typo", level=MUST, needs=("cache/filters",))
def filter_typo(pair: Pair) -> Iterator[Finding]:
    """A name in `names_filter` that is no hook MUST raise an error that names it, alone or among others in a list.

    A typo that is dropped shows up as a missing key hours later, or never.
    """
    from ..subject import SubjectRaised

    first, _ = _ends(pair)
    typo = f"{first}_misspelt"
    for kind, names_filter in (("string", typo), ("list", [first, typo])):
        place = f"names_filter as a {kind}"
        try:
            _cached(pair, names_filter=names_filter)
        except SubjectRaised as error:
            if typo not in str(error):
                yield Finding("unclear-error", place, got=str(error), want=f"an error that names {typo!r}")
            continue
        yield Finding("accepted", place, got="a cache without it", want="an error that names it")


@requirement("cache/own-storage", level=MUST, needs=("cache/complete",))
def own_storage(pair: Pair) -> Iterator[Finding]:
    """Every cache entry MUST have memory of its own: apart from other entries, from the model and from another run.

    Changing one entry in place, to make a corrupted run, silently changes its neighbours; a second run, the first.
    """
    from .. import memory

    _, cache = _cached(pair)
    lent = memory.shared(cache, memory.everything(pair.boot.bridge.original_model))
    _, again = _cached(pair, pair.draw(len(pair.plain), seed=1))
    owners: dict[int, str] = {}
    neighbours = []
    for name, value in cache.items():
        owner = owners.setdefault(memory.address(value), name)
        if _canonical(pair, owner) != _canonical(pair, name):
            neighbours.append((owner, name))
    found = {
        "shared-storage": neighbours,
        "shared-with-model": lent,
        "shared-with-next-run": memory.shared(cache, again),
    }
    for code, pairs in found.items():
        if pairs:
            first = " and ".join(pairs[0])
            yield Finding(code, "run_with_cache", got=f"{len(pairs)} shared entries, first {first}", want="none")


def _cached(pair: Pair, inputs: Mapping[str, Any] | None = None, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and entries of `run_with_cache`; an entry without a tensor counts as none."""
    from torch import Tensor

    from ..subject import SubjectRaised

    got = pair.guarded(pair.boot.bridge.run_with_cache, inputs, **options)
    if not isinstance(got, tuple) or len(got) != 2 or not isinstance(got[0], Tensor):
        raise SubjectRaised("run_with_cache did not return logits and a cache")
    return got[0], {name: value for name, value in got[1].items() if isinstance(value, Tensor)}


def _ends(pair: Pair) -> tuple[str, str]:
    """The hooks that fire first and last."""
    from ..subject import SubjectRaised

    if not pair.observed.order:
        raise SubjectRaised("no hook fires")
    return pair.observed.order[0], pair.observed.order[-1]


def _canonical(pair: Pair, name: str) -> str:
    registry = pair.boot.bridge.hook_dict
    return str(registry[name].name) if name in registry else name


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.equal(other)
