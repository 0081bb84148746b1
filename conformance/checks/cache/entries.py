"""Entries: what fired is in the cache, whole, as it was, and by itself. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement
from . import runs

if TYPE_CHECKING:
    from torch import Tensor

    from ...pair import Pair


@requirement("cache/observes", level=MUST)
def observes(pair: Pair) -> Iterator[Finding]:
    """`run_with_cache` MUST return the logits of a plain forward, bit for bit.

    A cache that changes the run describes another model.
    """
    from ...compare import exact

    logits, _ = pair.cached
    yield from exact("logits", logits, pair.plain)


@requirement("cache/complete", level=MUST, needs=("hooks/fires",))
def complete(pair: Pair) -> Iterator[Finding]:
    """Every hook that fires MUST be in the cache, under its canonical name and its aliases, and no other.

    A key that is missing ends a notebook; one that is there without a firing misleads it.
    """
    _, cache = pair.cached
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
    from ...compare import shape_of

    _, cache = pair.cached
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
    from ...compare import exact

    _, cache = pair.cached
    for name, entry in cache.items():
        fired = pair.canonical(name)
        calls = pair.observed.taps.get(fired, [])
        if calls and not any(_same(entry, call) for call in calls):
            yield from exact(name, entry, pair.observed.joined(fired))


@requirement("cache/order", level=MUST, needs=("cache/complete",))
def order(pair: Pair) -> Iterator[Finding]:
    """Keys MUST stand in the order in which their hooks first fire, all names of one hook side by side.

    A loop over the cache is read as a walk through the model, and stacks of "everything so far" are cut by it.
    """
    _, cache = pair.cached
    fired = list(dict.fromkeys(pair.observed.order))
    hooks = [pair.canonical(name) for name in cache if pair.canonical(name) in fired]
    got = [hook for place, hook in enumerate(hooks) if place == 0 or hooks[place - 1] != hook]
    want = [hook for hook in fired if hook in got]
    # The first place at which the two part is where a walk goes astray; a hook that comes twice is longer than wanted.
    for found, wanted in zip(got, [*want, *["nothing more"] * len(got)], strict=False):
        if found != wanted:
            yield Finding("out-of-order", found, got=f"{found} next", want=f"{wanted}, as they fire")
            return


@requirement("cache/repeats", level=MUST, needs=("cache/complete",))
def repeats(pair: Pair) -> Iterator[Finding]:
    """A second run on the same input MUST give the same keys in the same order, and the same values bit for bit.

    What piles up from run to run, in a hook's context or in a cache, is seen by no one who runs once.
    """
    from ...compare import exact

    (_, first), second = pair.cached, runs.again(pair).entries
    if list(first) != list(second):
        changed = sorted(set(first) ^ set(second)) or ["the same names in another order"]
        yield Finding("other-keys", "run_with_cache", got=", ".join(changed[:3]), want="the keys of the first run")
    for name in first.keys() & second.keys():
        yield from exact(name, second[name], first[name])


@requirement("cache/own-storage", level=MUST, needs=("cache/complete",))
def own_storage(pair: Pair) -> Iterator[Finding]:
    """Every cache entry MUST have memory of its own: apart from other entries, from the model and from another run.

    Changing one entry in place, to make a corrupted run, silently changes its neighbours; a second run, the first.
    """
    from ... import memory

    cache = runs.again(pair).entries
    lent = memory.shared(cache, memory.everything(pair.boot.bridge.original_model))
    owners: dict[int, str] = {}
    neighbours = []
    for name, value in cache.items():
        owner = owners.setdefault(memory.address(value), name)
        if pair.canonical(owner) != pair.canonical(name):
            neighbours.append((owner, name))
    found = {
        "shared-storage": neighbours,
        "shared-with-model": lent,
        "shared-with-next-run": runs.to_the_end(pair).shared,
    }
    for code, pairs in found.items():
        if pairs:
            first = " and ".join(pairs[0])
            yield Finding(code, "run_with_cache", got=f"{len(pairs)} shared entries, first {first}", want="none")


@requirement("cache/memory", level=MUST, needs=("cache/complete",))
def memory(pair: Pair) -> Iterator[Finding]:
    """A cache MUST hold the memory that its entries list and no more, and a dropped cache MUST hold none.

    An entry that is a view keeps all of the tensor it was cut from, and a bridge that remembers its last cache
    keeps the whole of it: what fits in memory on paper does not.
    """
    behind: dict[int, list[str]] = {}
    cache = runs.again(pair).entries
    for name, value in cache.items():
        behind.setdefault(value.untyped_storage().data_ptr(), []).append(name)
    for names in behind.values():
        held = cache[names[0]].untyped_storage().nbytes()
        # Entries that lie in one place are counted once; that they do is what cache/own-storage is about.
        listed = {(v.storage_offset(), v.shape, v.stride()): v.nbytes for v in map(cache.__getitem__, names)}
        if held > sum(listed.values()):
            yield Finding("held", pair.canonical(names[0]), got=f"{held} bytes", want=f"{sum(listed.values())} bytes")
    alive = runs.to_the_end(pair).alive
    if alive:
        got = f"{len(alive)} entries, first {alive[0]}, after the cache was dropped"
        yield Finding("kept-alive", "run_with_cache", got=got, want="none")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.equal(other)
