"""Workloads: what users do with a bridge, each beside the least that the model alone has to do for it.

Both sides are called on one row of a layout's inputs, and return all that their caller would hold in his hands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import components, taps
from .denoising import Kind
from .objective import objective
from .pair import Pair, blamed_on_subject

if TYPE_CHECKING:
    from .denoising import Outcome, Step
    from .subject import Boot

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Workload:
    """One call of the subject and the reference's own; `tokens` are those that either of them goes through."""

    subject: Call
    reference: Call
    tokens: int


def of_boot(boot: Boot) -> dict[str, Workload]:
    """Every workload of an adapter by its kind: of its first layout, and a denoising step where it has a sampler."""
    found = of_layout(next(iter(boot.pairs.values())))
    if boot.spec.sampler is not None:
        found["denoising"] = denoising(boot)
    return found


def of_layout(pair: Pair) -> dict[str, Workload]:
    """The workloads of one layout by kind; a denoising step is one of the layout that the sampler works in."""
    # A pair on one row, of which the objective takes as many.
    pair = Pair(pair.boot, pair.layout, pair.row)
    boot = pair.boot
    bridge, hook = boot.bridge, pair.canonical(boot.spec.streams[1].replace("{layer}", str(boot.layers // 2)))
    subjects: dict[str, Call] = {
        "forward": pair.call,
        "hook": lambda: pair.guarded(bridge.run_with_hooks, fwd_hooks=[(hook, _look)]),
        "cache": lambda: pair.guarded(bridge.run_with_cache),
        "filter": lambda: pair.guarded(bridge.run_with_cache, names_filter=hook),
    }
    found = {kind: Workload(call, pair.reference_logits, pair.length) for kind, call in subjects.items()}
    found["backward"] = Workload(partial(_backward, pair), partial(_reference_backward, pair), pair.length)
    if boot.spec.sampler is not None and boot.spec.sampler.layout == pair.layout.name:
        found["denoising"] = denoising(boot)
    return found


def _look(tensor: Tensor, hook: Any) -> None:
    """A hook that changes nothing."""


def _backward(pair: Pair) -> tuple[Tensor | None, ...]:
    with blamed_on_subject():
        logits = pair.guarded(pair.boot.bridge, grad=True)
        return _gradients(pair, logits, components.parameters(pair.boot.bridge.original_model))


def _reference_backward(pair: Pair) -> tuple[Tensor | None, ...]:
    pair.boot.forwards["reference"] += 1
    with torch.enable_grad():
        logits = taps.logits_of(pair.boot.reference(**pair.inputs))
        return _gradients(pair, logits, components.parameters(pair.boot.reference))


def _gradients(pair: Pair, logits: Tensor, parameters: Mapping[str, Tensor]) -> tuple[Tensor | None, ...]:
    wanted = [value for value in parameters.values() if value.requires_grad]
    return torch.autograd.grad(objective(pair, logits), wanted, allow_unused=True)


def denoising(boot: Boot) -> Workload:
    """The first step of the sampler that denoises, behind a prompt of half the context, and what leads up to it."""
    from .bare import Bare

    sampler = boot.spec.sampler
    assert sampler is not None
    n, block = boot.sizes["n"], boot.sizes.get("block") or sampler.block or 1
    given = max(n // 2 // block, 1) * block
    length = given + (n - given) // block * block
    mask = None if boot.spec.mask_token is None else boot.spec.mask_token.of(boot.sizes)
    prompt = torch.randint(boot.sizes["d_vocab"] - 1, (1, given), generator=torch.Generator().manual_seed(1))
    prompt = prompt if mask is None else prompt + (prompt >= mask).long()

    def step(bridge: Any) -> Tensor:
        once = _Once()
        try:
            sampler.sample(bridge, prompt.clone(), seed=0, observer=once, **{**sampler.options, sampler.length: length})
        except _Denoised as done:
            return done.canvas
        # A sampler that is told of nothing that denoises may be at its end by the first step's.
        raise RuntimeError(f"the sampler told of {once.steps} steps, and of none that denoises")

    def subject() -> Tensor:
        boot.forwards["subject"] += 1
        with blamed_on_subject():
            return step(boot.bridge)

    def reference() -> Tensor:
        boot.forwards["reference"] += 1
        return step(Bare(boot))

    return Workload(subject, reference, length)


class _Denoised(Exception):
    """The step is over; `canvas` is what it left."""

    def __init__(self, canvas: Tensor) -> None:
        super().__init__()
        self.canvas = canvas


class _Once:
    """An observer that ends a run after its first step that denoises."""

    steps = 0

    def before(self, step: Step) -> None:
        """Nothing has happened yet."""

    def after(self, step: Step, outcome: Outcome) -> None:
        """End the run, unless the step only led up to one that denoises."""
        self.steps += 1
        if step.kind is Kind.DENOISE:
            raise _Denoised(outcome.canvas)
