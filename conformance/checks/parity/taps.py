"""Logits and taps: what the bridge computes is what the model computes. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...judge import Evidence
    from ...pair import Pair
    from ...taps import Recording


@requirement("parity/oracle", level=MUST)
def oracle(pair: Pair) -> Iterator[Finding]:
    """The oracle's equations and the remote model MUST agree at the logits and at every module boundary.

    A judge that disagrees with the model may not judge the bridge.
    """
    if not pair.exact.order:
        yield Finding("no-oracle", "oracle", got="no oracle in the spec", want="the equations of the architecture")
        return
    for name in (*pair.reference.taps, "logits"):
        if name not in pair.exact:
            yield Finding("missing", name, got="no tap in the oracle", want="one at every module boundary")
        else:
            yield from disagreement(pair, name)


def disagreement(pair: Pair, name: str) -> Iterator[Finding]:
    """A finding where the model and the equations both have a tensor of this name, and it is not the same."""
    from ...compare import ORACLE

    if name in pair.exact and name in pair.reference:
        want = pair.reference.joined(name)
        allowed = ORACLE.of(want) if want.is_floating_point() else 0.0
        yield from apart(name, pair.exact, want, allowed, got="the oracle's")


def apart(name: str, recording: Recording, want: Tensor, allowed: float, got: str) -> Iterator[Finding]:
    """A finding where a recording lies further from the model's tensor, of which it kept perhaps only how far."""
    from ...compare import distance, within

    size = recording.apart[name] if name in recording.apart else distance(recording.joined(name), want)
    if not within(size, allowed):
        yield Finding("value-mismatch", name, got=got, want="the model's", size=size, allowed=allowed)


@requirement("parity/logits", level=MUST, needs=("parity/oracle",))
def logits(pair: Pair) -> Iterator[Finding]:
    """On one input after another, the bridge's logits MUST equal the reference's, within the rounding of fp32.

    If the logits differ, whatever is studied is another model. Tables that are kept by length are right the first
    time and wrong the next, so other tokens follow.
    """
    from ...compare import PATHS, close

    yield from close("logits", pair.plain, pair.reference.logits, pair.allowed("logits"), detail=pair.divergence)
    inputs = pair.draw(pair.rows, 2)
    got, want = pair.call(inputs), pair.reference_logits(inputs)
    yield from close("logits", got, want, pair.allowed("logits", PATHS), case="other tokens")


@requirement("parity/taps", level=MUST, needs=("hooks/fires", "hooks/multiplicity", "parity/oracle"))
def taps(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """Every hook's tensor MUST be what its name says: the reference's at a module boundary, else the oracle's.

    A hook with the right shape at the wrong place yields a paper with wrong numbers.
    """
    for name, point in pair.boot.bridge.hook_dict.items():
        if point.name in pair.observed.taps and pair.want(name) is None:
            yield Finding("unknown", name, got="a tensor", want="a point or an oracle tap to judge it by")
    for flaw in first_flaws(pair):
        # Of the others parity/logits, parity/oracle and hooks/fires speak.
        if flaw.at != "logits" and flaw.code not in ("judges-disagree", "missing"):
            yield replace(flaw, detail=pair.divergence)
    if pair.divergence:
        evidence.facts["divergence"] = pair.divergence
    evidence.measurements["taps"] = [
        {"at": name, "error": _figure(size), "budget": _figure(allowed)}
        for name, (size, allowed) in pair.shelf["sizes"].items()
    ]


def _figure(size: float) -> float | None:
    """Three digits; None where a tensor is not finite, or as good as that, or not of the shape that it should have."""
    rounded = float(f"{size:.3g}")
    return rounded if math.isfinite(rounded) else None


def first_flaws(pair: Pair) -> list[Finding]:
    """All flaws on the pair's own input, kept for those who ask what else is wrong on another."""
    if "flaws" not in pair.shelf:
        pair.shelf["flaws"] = list(flaws(pair))
    found: list[Finding] = pair.shelf["flaws"]
    return found


def flaws(pair: Pair, known: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Hooks, canonical or alias, that do not hold what they should, in firing order, and at last the logits.

    Where the judges themselves disagree, that is the flaw: budgets would be as wide as what divides them. Nothing is
    said of places or patterns that are `known`. The pair keeps how far each is off, and what its budget is.
    """
    from ...compare import close, distance, within
    from ...spec import pattern_of

    registry, seen = pair.boot.bridge.hook_dict, pair.observed
    sizes = pair.shelf["sizes"] = {}
    under = {name: name for name in pair.reference.taps} | {name: point.name for name, point in registry.items()}
    fired = {name: place for place, name in enumerate(dict.fromkeys(seen.order))}
    for name in (*sorted(under, key=lambda name: fired.get(under[name], -1)), "logits"):
        want, shown = pair.want(name), under.get(name, name)
        if want is None or shown not in (*pair.names, "logits") or not known.isdisjoint((name, pattern_of(name))):
            continue
        if quarrel := next(disagreement(pair, name), None):
            yield replace(quarrel, code="judges-disagree")
        elif shown not in seen:
            yield Finding("missing", name, got="no tensor", want="the model's")
        else:
            got, allowed = seen.joined(shown), pair.allowed(name)
            sizes[name] = distance(got, want) if got.shape == want.shape else math.inf, allowed
            if not within(sizes[name][0], allowed):
                yield from close(name, got, want, allowed)


@requirement("parity/rows", level=MUST, needs=("parity/logits",))
def rows(pair: Pair) -> Iterator[Finding]:
    """Another input in one row of a batch MUST leave the logits of the other rows as they are, bit for bit.

    A conditioning vector of one row that reaches another makes every batched sweep wrong; a scale that is taken over
    the batch makes every figure depend on its neighbours.
    """
    from ...compare import PATHS, close, exact

    pair = pair.with_rows
    apart = all(_rows_apart(other.with_rows) for other in pair.boot.pairs.values())
    for row in range(pair.rows):
        got = pair.call(_with_row(pair, row))
        for other in {*range(pair.rows)} - {row}:
            case, want = f"row {row} changed", pair.plain[other]
            if apart:
                yield from exact("logits", got[other], want, case=case)
            else:
                yield from close("logits", got[other], want, pair.allowed("logits", PATHS), case=case)


def _rows_apart(pair: Pair) -> bool:
    """Whether the model itself keeps rows apart bit for bit.

    A mixture takes the tokens of all rows that go to one expert in one product, and how many they are rounds it.
    """
    changed = [(row, pair.reference_logits(_with_row(pair, row))) for row in range(pair.rows)]
    rest = {row: [other for other in range(pair.rows) if other != row] for row in range(pair.rows)}
    return all(logits[rest[row]].equal(pair.reference.logits[rest[row]]) for row, logits in changed)


def _with_row(pair: Pair, row: int) -> dict[str, Any]:
    """The pair's inputs with those of another draw in one row."""
    import torch

    drawn, inputs = pair.draw(pair.rows, 2), dict(pair.inputs)
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor):
            inputs[name] = torch.cat((value[:row], drawn[name][row : row + 1], value[row + 1 :]))
    return inputs
