"""Filters: what is asked for is kept, and nothing else. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement
from . import runs

if TYPE_CHECKING:
    from ...pair import Pair


@requirement("cache/filters", level=MUST, needs=("cache/complete",))
def filters(pair: Pair) -> Iterator[Finding]:
    """`names_filter` MUST keep exactly the hooks asked for, as a name, an alias, a list or a predicate, so spelt.

    Filters decide what fits in memory; one that keeps more or less is noticed late, and a notebook that asks for
    an alias goes on to read the entry by that alias.
    """
    asked = {
        "a name": runs.from_the_start(pair).run,
        "an alias": runs.before_the_last(pair).run,
        "a list": runs.offloaded(pair).run,
        "a predicate": runs.to_the_end(pair).run,
    }
    for kind, run in asked.items():
        got = {pair.canonical(name) for name in run.cache}
        more, fewer = sorted(got - run.wanted), sorted((run.wanted - got) | (run.asked - set(run.cache)))
        if more or fewer:
            yield Finding(
                "filter",
                f"names_filter as {kind}",
                got=f"{_few(more)} more, {_few(fewer)} fewer",
                want=f"{_few(sorted(run.asked))} and no other",
            )


@requirement("cache/filter-typo", level=MUST, needs=("cache/filters",))
def filter_typo(pair: Pair) -> Iterator[Finding]:
    """A name in `names_filter` that is no hook MUST raise an error that names it, alone or among others in a list.

    A typo that is dropped shows up as a missing key hours later, or never.
    """
    from ...pair import SubjectRaised

    first, _ = runs.ends(pair)
    typo = f"{first}_misspelt"
    # A lone typo leaves nothing to run for; a list with a good name may be taken, and then costs a forward.
    for kind, names_filter, run in (("string", typo, pair.refused), ("list", [first, typo], pair.guarded)):
        place = f"names_filter as a {kind}"
        try:
            run(pair.boot.bridge.run_with_cache, names_filter=names_filter)
        except SubjectRaised as error:
            if typo not in str(error):
                yield Finding("unclear-error", place, got=str(error), want=f"an error that names {typo!r}")
            continue
        yield Finding("accepted", place, got="a cache without it", want="an error that names it")


@requirement("cache/filter-dead-name", level=MUST, needs=("cache/filters",))
def filter_dead_name(pair: Pair) -> Iterator[Finding]:
    """A filter for a hook that cannot fire, in this model or before `stop_at_layer`, MUST raise or warn by its name.

    A sweep over dead hooks succeeds and keeps nothing, and an entry made up for one is worse (TransformerLens
    issue #1688).
    """
    import warnings

    from ...pair import SubjectRaised

    after = pair.canonical(pair.boot.spec.streams[1].replace("{layer}", str(pair.boot.layers - 1)))
    dead = [*[name for name in pair.names if name not in pair.observed.taps][:1], after]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _, cache = pair.cache(names_filter=dead, stop_at_layer=-1)
    except SubjectRaised as error:
        # An error may stop at the first of them.
        if not any(name in str(error) for name in dead):
            yield Finding("unclear-error", "names_filter", got=str(error), want=f"an error that names {_few(dead)}")
        return
    heard = "\n".join(str(warning.message) for warning in caught)
    for name in dead:
        if name in cache:
            yield Finding("made-up", "names_filter", got=f"an entry for {name}", want="none: it cannot fire")
    silent = [name for name in dead if name not in cache and name not in heard]
    if silent:
        want = "an error or a warning that names it"
        yield Finding("silent", "names_filter", got=f"nothing is said of {_few(silent)}", want=want)


def _few(names: list[str]) -> str:
    """The first three names, and how many follow."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "") or "none"
