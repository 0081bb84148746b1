"""Firing: every hook, as often as declared, in order, and changing nothing. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
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
        "advertised": len(registry),
        "refused": sorted(name for name, point in registry.items() if point.name in refused),
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
    """Hooks MUST fire in the order in which the reference computes their tensors.

    What is upstream of an intervention is decided by this order.
    """
    expected = pair.exact.order or pair.reference.order
    known = set(expected)
    got = [name for name in dict.fromkeys(pair.observed.order) if name in known]
    seen = set(got)
    want = [name for name in dict.fromkeys(expected) if name in seen]
    for place, other in zip(got, want, strict=True):
        if place != other:
            yield Finding("out-of-order", place, got=f"fires where {other} should", want="data-flow order")
            return


@requirement("hooks/identity", level=MUST, needs=("hooks/fires",))
def identity(pair: Pair) -> Iterator[Finding]:
    """Returning the tensor a hook was given MUST give the logits of a run that only observes, bit for bit.

    Researchers wrap hooks that sometimes do nothing; a rebuild on the way out changes the model under them.
    """
    from ...compare import exact

    touched = pair.edited(pair.names, lambda tensor, hook: tensor)
    yield from exact("logits", touched, pair.observed.logits)
