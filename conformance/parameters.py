"""Parameters: what backward passes say of their gradients, which are as large as the model and soon let go."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import compare, components, taps
from .finding import Finding
from .objective import objective
from .taps import Recording

if TYPE_CHECKING:
    from .backward import Backward
    from .pair import Pair

STEP, SEEDED_STEP = 0.002, 0.02
"""How far a parameter moves for a finite difference, in its own root mean square: along its gradient, or without one.

Along the gradient the objective bends soonest; a seeded way moves it less, and there is no derivative to be near.
"""

TRIED = 2
"""Parameters of a layout that are tried by finite differences."""


@dataclass(frozen=True, slots=True)
class Told:
    """What backward passes said: the gradients at hooks, and the findings against those of parameters.

    `parameters` are findings against model and equations, `returned` against hooks that return what they are given;
    `kept` are the gradients of the few parameters that finite differences try, `loss` is the objective.
    """

    observed: Recording
    parameters: list[Finding]
    returned: list[Finding]
    kept: dict[str, Tensor | None]
    loss: Tensor


def compared(backward: Backward) -> Told:
    """Three passes of the subject and one of the reference, compared.

    The gradients of all parameters are as large as the model; each pass lets go of them once it is compared.
    """
    pair, witnesses = backward.pair, backward.witnesses
    # Bridges that were booted on the way hang in cycles, each as large as the model.
    gc.collect()
    names, exact = sorted(pair.boot.params), witnesses.exact
    plain = backward.of_bridge([])
    parameters = [*_unlike(backward, plain, backward.of_reference(), "by the reference")]
    parameters += _unlike(backward, plain, exact, "by the equations")
    tried = _tried(pair, exact)
    kept = {name: plain.joined(name) if name in plain else None for name in tried}
    loss = plain.logits
    del plain

    observed = backward.of_bridge(pair.names)
    touched = backward.of_bridge(pair.names, lambda name, gradient: gradient, keep=taps.shape_only)
    returned = [f for name in names for f in _unequal(name, touched, observed)]
    observed = _undisturbed(backward, observed, loss)
    parameters += _unlike(backward, observed, exact, "by the equations, with hooks attached")
    for recording in (observed, exact):
        recording.drop(names)
    return Told(observed, parameters, returned, kept, loss)


def _undisturbed(backward: Backward, every: Recording, loss: Tensor) -> Recording:
    """What hooks show that leave the forward as it is; only those that change it keep what they showed of another."""
    allowed = backward.witnesses.allowed("logits", compare.PATHS)

    def disturbed(names: list[str]) -> bool:
        return not compare.within(compare.distance(backward.loss(names), loss), allowed)

    if compare.within(compare.distance(every.logits, loss), allowed):
        return every
    names = backward.pair.names
    loud = _searched(disturbed, names)
    quiet = backward.of_bridge([name for name in names if name not in loud])
    quiet.taps.update({name: every.taps[name] for name in loud if name in every.taps})
    quiet.order = every.order
    return quiet


def _searched(wrong: Callable[[list[str]], bool], names: list[str]) -> set[str]:
    """Names that are wrong by themselves, found by halves."""
    if not names or not wrong(names):
        return set()
    if len(names) == 1:
        return set(names)
    half = len(names) // 2
    return _searched(wrong, names[:half]) | _searched(wrong, names[half:])


def _unlike(backward: Backward, got: Recording, want: Recording, case: str) -> Iterator[Finding]:
    for name in sorted(backward.pair.boot.params):
        if name in want and name not in got:
            yield Finding("no-gradient", name, got="none", want="the model's gradient", case=case)
        elif name in want:
            allowed = backward.witnesses.allowed(name)
            yield from compare.close(name, got.joined(name), want.joined(name), allowed, case=case)
        elif name in got and got.joined(name).any():
            yield Finding("made-up", name, got="a gradient", want="none, as in the model", case=case)


def _unequal(name: str, one: Recording, other: Recording) -> Iterator[Finding]:
    if name in one and name in other:
        yield from compare.exact(name, one.joined(name), other.joined(name))
    elif name in one or name in other:
        yield Finding("no-gradient", name, got="a gradient on one side only", want="one with either hook")


def _tried(pair: Pair, exact: Recording) -> list[str]:
    """Parameters for finite differences: first those to which the model gives no gradient, then seeded ones."""
    names = sorted(name for name, value in pair.boot.reference.named_parameters() if value.requires_grad)
    silent = [name for name in names if name not in exact or not exact.joined(name).any()]
    return [*silent, *random.Random(pair.layout.name).sample(names, len(names))][:TRIED]


def along(pair: Pair, name: str) -> tuple[float, float, float]:
    """Slope of the objective along one parameter of the subject: the way its gradient points, else a seeded way.

    Returns the derivative by its gradient, the central difference, and the distance of its two points. The
    parameter moves a little, and back, bit for bit.
    """
    parameter = components.parameters(pair.boot.bridge.original_model)[name]
    before = parameter.detach().clone()
    kept = pair.backward.told.kept[name]
    gradient = torch.zeros_like(before) if kept is None else kept
    drawn = torch.randn(before.shape, generator=torch.Generator().manual_seed(4))
    direction, step = (gradient, STEP) if gradient.any() else (drawn, SEEDED_STEP)
    direction = direction * (before.square().mean() / direction.square().mean()).sqrt()
    losses = []
    try:
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(before + sign * step * direction)
            losses.append(objective(pair, pair.call()).item())
    finally:
        with torch.no_grad():
            parameter.copy_(before)
    return float((gradient * direction).sum()), (losses[0] - losses[1]) / (2 * step), 2 * step
