"""Filters: what is asked for is kept, and nothing else. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...pair import Pair


@requirement("cache/filters", level=MUST, needs=("cache/complete",))
def filters(pair: Pair) -> Iterator[Finding]:
    """`names_filter` MUST keep exactly the hooks asked for, as a string, a list or a predicate.

    Filters decide what fits in memory; one that keeps more or less is noticed late.
    """
    first, last = _ends(pair)
    asked: dict[str, Any] = {"string": first, "list": [first, last], "predicate": lambda name: name == last}
    wanted = {"string": {first}, "list": {first, last}, "predicate": {last}}
    for kind, names_filter in asked.items():
        _, cache = pair.cache(names_filter=names_filter)
        got = {pair.canonical(name) for name in cache}
        if got != wanted[kind]:
            yield Finding("filter", f"names_filter as a {kind}", got=str(sorted(got)), want=str(sorted(wanted[kind])))


@requirement("cache/filter-typo", level=MUST, needs=("cache/filters",))
def filter_typo(pair: Pair) -> Iterator[Finding]:
    """A name in `names_filter` that is no hook MUST raise an error that names it, alone or among others in a list.

    A typo that is dropped shows up as a missing key hours later, or never.
    """
    from ...pair import SubjectRaised

    first, _ = _ends(pair)
    typo = f"{first}_misspelt"
    for kind, names_filter in (("string", typo), ("list", [first, typo])):
        place = f"names_filter as a {kind}"
        try:
            pair.cache(names_filter=names_filter)
        except SubjectRaised as error:
            if typo not in str(error):
                yield Finding("unclear-error", place, got=str(error), want=f"an error that names {typo!r}")
            continue
        yield Finding("accepted", place, got="a cache without it", want="an error that names it")


def _ends(pair: Pair) -> tuple[str, str]:
    """The hooks that fire first and last."""
    from ...pair import SubjectRaised

    if not pair.observed.order:
        raise SubjectRaised("no hook fires")
    return pair.observed.order[0], pair.observed.order[-1]
