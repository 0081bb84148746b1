"""Firing: every hook, as often as declared, in order, and changing nothing. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...pair import Pair


@requirement("hooks/fires", level=MUST, needs=("hooks/names",))
def fires(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """Every advertised hook MUST fire with a tensor in one forward, or refuse to be attached to.

    A hook that attaches and never fires makes an intervention look as if it had no effect.
    """
    refused = pair.boot.refused
    for name, error in refused.items():
        if name.rpartition(".")[2] not in str(error):
            yield Finding("unclear-refusal", name, got=str(error), want="an error that names the hook")
    for name in pair.names:
        if name in pair.observed.strange:
            yield Finding("no-tensor", name, got=pair.observed.strange[name], want="a tensor")
        elif name not in pair.observed.taps:
            yield Finding("never-fires", name, got="0 firings", want="at least one, or a refusal")
    registry = pair.boot.bridge.hook_dict
    evidence.facts["hooks"] = {
        "canonical": sorted(name for name, point in registry.items() if point.name == name),
        "aliases": {name: point.name for name, point in sorted(registry.items()) if point.name != name},
        "refused": sorted(refused),
    }


@requirement("hooks/multiplicity", level=MUST, needs=("hooks/fires",))
def multiplicity(pair: Pair) -> Iterator[Finding]:
    """Every hook MUST fire exactly as often in one forward as the layout declares.

    A second firing applies an edit twice; a missing one edits half of the stream.
    """
    for name, calls in pair.observed.taps.items():
        if len(calls) != (wanted := pair.declared_calls(name)):
            yield Finding("firings", name, got=str(len(calls)), want=str(wanted))


@requirement("hooks/order", level=MUST, needs=("hooks/multiplicity",))
def order(pair: Pair) -> Iterator[Finding]:
    """Hooks MUST fire in the order in which the reference computes their tensors, every time they fire, and those
    below a component between its `hook_in` and its `hook_out`.

    What is upstream of an intervention is decided by this order.
    """
    # How often is another requirement's to say; what fires as often as the model runs is compared firing by firing.
    model, seen = pair.reference, pair.observed
    same = {name for name in model.taps if len(model.taps[name]) == len(seen.taps.get(name, ()))}
    yield from itertools.islice(
        itertools.chain(
            _out_of_order([n for n in seen.order if n in same], [n for n in model.order if n in same]),
            _out_of_order(*_first_firings(seen.order, pair.exact.order)),
        ),
        1,
    )
    yield from itertools.islice(_out_of_nest(seen.order), 1)


def _first_firings(got: list[str], want: list[str]) -> tuple[list[str], list[str]]:
    """Both orders, each name where it comes first, names of one alone left out."""
    one, other = dict.fromkeys(got), dict.fromkeys(want)
    return [name for name in one if name in other], [name for name in other if name in one]


def _out_of_order(got: list[str], want: list[str]) -> Iterator[Finding]:
    for place, other in zip(got, want, strict=True):
        if place != other:
            yield Finding("out-of-order", place, got=f"fires where {other} should", want="data-flow order")


def _out_of_nest(order: list[str]) -> Iterator[Finding]:
    """Hooks that fire while a component above them has not begun, or is over; one that never fires says nothing."""
    fired, running = set(order), Counter[str]()
    for name in order:
        component, _, hook = name.rpartition(".")
        steps = component.split(".")
        above = [".".join(steps[: end + 1]) for end in range(len(steps))]
        if hook == "hook_in":
            above.remove(component)
            running[component] += 1
        for outer in above:
            if {f"{outer}.hook_in", f"{outer}.hook_out"} <= fired and not running[outer]:
                yield Finding("out-of-nest", name, got="fires alone", want=f"between hook_in and hook_out of {outer}")
        if hook == "hook_out":
            running[component] -= 1


@requirement("hooks/steady", level=MUST, needs=("hooks/fires",))
def steady(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """The same hooks MUST fire as often and in the same order on other tokens, in another batch size, at another
    length, in another run, on another number of threads and under autocast.

    A hook that fires for the first batch only, or twice for a larger one, is right in every test and wrong in use.
    """
    longer = pair.boot.longer.pairs[pair.layout.name]
    cases = {"another batch": pair.again.order, "longer": longer.observed.order, **_once_more(pair)}
    evidence.facts["compared with"] = sorted(cases)
    for case, order in cases.items():
        # The longer miniature may have fewer layers than the checkpoint.
        known = {*longer.names} if case == "longer" else {*pair.names}
        got, want = ([name for name in each if name in known] for each in (order, pair.observed.order))
        counts, wanted = Counter(got), Counter(want)
        changed = [name for name in dict.fromkeys([*want, *got]) if counts[name] != wanted[name]]
        for name in changed:
            yield Finding("firings", name, got=str(counts[name]), want=str(wanted[name]), case=case)
        if not changed:
            yield from itertools.islice((replace(f, case=case) for f in _out_of_order(got, want)), 1)


def _once_more(pair: Pair) -> dict[str, list[str]]:
    """Firings of the same input on another number of threads and, if the model runs there, under autocast."""
    import torch

    from ...pair import SubjectRaised, blamed_on_subject
    from ...taps import record_bridge, shape_only

    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        with blamed_on_subject():
            cases = {"other threads": record_bridge(pair.call, pair.boot.bridge, pair.names, keep=shape_only).order}
    finally:
        torch.set_num_threads(threads)
    # Whether a model runs in another dtype is not for hooks to say.
    with (
        contextlib.suppress(SubjectRaised),
        blamed_on_subject(),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        cases["autocast"] = record_bridge(pair.call, pair.boot.bridge, pair.names, keep=shape_only).order
    return cases


@requirement("hooks/identity", level=MUST, needs=("hooks/fires",))
def identity(pair: Pair) -> Iterator[Finding]:
    """Returning the tensor a hook was given MUST give the logits of a run that only observes, bit for bit.

    Researchers wrap hooks that sometimes do nothing; a rebuild on the way out changes the model under them.
    """
    from ...compare import exact

    touched = pair.edited(pair.names, lambda tensor, hook: tensor)
    yield from exact("logits", touched, pair.observed.logits)
