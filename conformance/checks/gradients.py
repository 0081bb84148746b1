"""gradients: what flows back through the bridge is what flows back through the model. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ..pair import Pair

SLACK = 0.05
"""Share by which a central difference may miss the derivative.

Measured on every parameter of the miniature: it misses by at most 0.003; a derivative that is cut off misses by 1.
"""


@requirement("gradients/parameters", level=MUST, needs=("parity/oracle",))
def parameters(pair: Pair) -> Iterator[Finding]:
    """Under masked cross-entropy every parameter's gradient MUST be the reference's, and that of the equations.

    Attribution by gradient, probes and finetuning read it; where remote code or a bridge cuts it off, the forward
    looks as it always did.
    """
    yield from pair.backward.told.parameters


@requirement("gradients/fires", level=MUST, needs=("hooks/multiplicity",))
def fires(pair: Pair) -> Iterator[Finding]:
    """Backward hooks MUST fire wherever the model has a gradient, as often as forward hooks, in reverse order.

    A backward hook that never fires leaves an attribution with a hole, and no error.
    """
    observed, witnesses = pair.backward.observed, pair.backward.witnesses
    for name, calls in pair.observed.taps.items():
        fired = len(observed.taps.get(name, ()))
        # Where the model itself has no gradient, as at an input, there is none to show.
        if fired != len(calls) and (fired or name in witnesses.exact):
            yield Finding("firings", name, got=f"{fired} backward", want=f"{len(calls)}, as forward")
    fired_back = set(observed.order)
    want = [name for name in reversed(pair.observed.order) if name in fired_back]
    for place, other in zip(observed.order, want, strict=False):
        if place != other:
            yield Finding("out-of-order", place, got=f"fires where {other} should", want="the reverse of forward order")
            return


@requirement("gradients/taps", level=MUST, needs=("gradients/fires", "parity/taps"))
def taps(pair: Pair) -> Iterator[Finding]:
    """At every hook, by each of its names, the gradient MUST be that of the tensor that the name stands for.

    A hook with the right value may stand where the stream has already branched off: attribution through it, and
    every edit, then misses the other branch.
    """
    from ..compare import close

    observed, witnesses = pair.backward.observed, pair.backward.witnesses
    for name, point in pair.boot.bridge.hook_dict.items():
        shown = observed.taps.get(point.name)
        if shown is None or len(shown) != len(pair.observed.taps[point.name]):
            continue
        want = witnesses.want(name)
        if want is None:
            yield Finding("unknown", name, got="a gradient", want="a point or an oracle tap to judge it by")
        else:
            yield from close(name, observed.joined(point.name), want, witnesses.allowed(name))


@requirement("gradients/identity", level=MUST, needs=("gradients/fires",))
def identity(pair: Pair) -> Iterator[Finding]:
    """A backward hook that returns the gradient it was given MUST change no parameter's gradient by a bit.

    Returning from a backward hook has raised (TransformerLens #1160); one that returns what it got must be as good
    as one that returns nothing.
    """
    yield from pair.backward.told.returned


@requirement("gradients/replaced", level=MUST, needs=("gradients/taps",))
def replaced(pair: Pair) -> Iterator[Finding]:
    """What a backward hook returns MUST take the gradient's place: zeros returned there stop it, upstream of it.

    Stopping gradients is how paths are isolated; one that runs on attributes to a path that was meant to be cut.
    """
    import torch

    from .. import compare

    backward = pair.backward
    observed, witnesses = backward.observed, backward.witnesses
    right = {name for name in observed.taps if name in witnesses.exact and not backward.differs(name)}

    def stop(name: str, gradient: Tensor) -> Tensor:
        return gradient * _kept(name, gradient) if name in right else gradient

    got = backward.of_bridge(right, stop, shallow=True)
    # What is left are fewer terms of the same size, so the budgets of the whole hold.
    exact = backward.of_model(torch.float64, stop, shallow=True)
    passed = ""
    for name in [name for name in reversed(pair.observed.order) if name in right]:
        allowed = witnesses.allowed(name)
        found = list(compare.close(name, got.joined(name), exact.joined(name), allowed, case=f"upstream of {passed}"))
        yield from found
        if found:
            return
        passed = name


@requirement("gradients/reach", level=MUST, needs=("gradients/parameters",))
def reach(pair: Pair) -> Iterator[Finding]:
    """A parameter that moves the objective MUST get the gradient that a finite difference along it shows.

    A part of remote code that runs without gradients, as experts of mixtures do, agrees with itself on both sides.
    """
    from ..compare import WITNESS, Allowed, within
    from ..parameters import along

    told = pair.backward.told
    for name in told.kept:
        derivative, measured, step = along(pair, name)
        allowed = Allowed(SLACK * abs(measured) + WITNESS.of(told.loss) / step, "slope")
        if not within(abs(derivative - measured), allowed):
            size = abs(derivative - measured)
            got, want = f"a derivative of {derivative:.3g}", f"{measured:.3g}, by central difference"
            yield Finding("cut-off", name, got=got, want=want, size=size, allowed=allowed)


def _kept(name: str, gradient: Tensor) -> Tensor:
    """1 for the channels that pass a stop at this hook and 0 for the others: about an eighth, at least one."""
    import torch

    from ..edits import seeded

    draw = seeded(name)
    kept = torch.rand(gradient.shape[-1], generator=draw) > 1 / 8
    kept[int(torch.randint(len(kept), (), generator=draw))] = False
    return kept.to(gradient.dtype)
