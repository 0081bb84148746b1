"""What a run of the sampler depends on between two steps: where it begins, and where one can go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .draws import generators
from .plan import Plan, checked_ids
from .stops import RUNNING


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Probabilities that hold for as long as the canvas is the one that they were computed for.

    Attributes:
        canvas: up to the end of the block, `batch length`.
        log_probs: after SUBS, `batch block d_vocab`.
        probs: what is drawn from, after the nucleus; float64.
    """

    canvas: Tensor
    log_probs: Tensor
    probs: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class SamplerState:
    """Everything that the rest of a run depends on, between two steps.

    With `dataclasses.replace(state, canvas=...)` the run goes on from an edited canvas. Masks may be put back anywhere:
    blocks are filled from the left, and those after them that hold no mask are as given as a prompt.

    Attributes:
        canvas: all tokens so far in whole blocks, `batch length`.
        block: the one under way; `step`, `t` and `kept` are about it alone.
        step: denoising steps of this block before this one.
        t: noise level that each row has come down to, float64 `batch`.
        noise: states of the rows' generators; a `torch.Generator` of another seed gives another continuation.
        ends: column at which each row's text has ended, `batch`; far away where it has not.
        size: tokens per block.
        kept: probabilities that may still hold; without them the model runs again.
    """

    canvas: Tensor
    block: int
    step: int
    t: Tensor
    noise: tuple[Tensor, ...]
    ends: Tensor
    size: int
    kept: Kept | None = None


def beginning(canvas: Tensor, seed: int | Sequence[int], size: int) -> SamplerState:
    """Where a run begins that has all its noise before it."""
    noise = tuple(generator.get_state() for generator in generators(seed, len(canvas)))
    t = torch.ones(len(canvas), dtype=torch.float64, device=canvas.device)
    return SamplerState(canvas, 0, 0, t, noise, canvas.new_full((len(canvas),), RUNNING), size)


def checked(state: SamplerState, prompt: Tensor | None, plan: Plan) -> SamplerState:
    """A state to go on from, with its canvas in order, as it may have been edited."""
    if not isinstance(state, SamplerState):
        raise ValueError(f"resume is {type(state).__name__}, wanted a Step.state")
    if state.size != plan.block:
        raise ValueError(f"resume is of a run in blocks of {state.size}, wanted the bridge's block_size, {plan.block}")
    canvas = checked_ids(state.canvas, plan.d_vocab, "the canvas of resume", masks=True)
    rows = len(state.noise)
    if len(canvas) != rows:
        raise ValueError(f"the canvas of resume has {len(canvas)} rows, wanted {rows}")
    if prompt is not None and len(prompt) != rows:
        raise ValueError(f"resume has {rows} rows, wanted the prompt's {len(prompt)}")
    most = plan.blocks * plan.block
    if canvas.shape[1] % plan.block or not plan.prompt <= canvas.shape[1] <= most:
        wanted = f"whole blocks of {plan.block} from {plan.prompt} to {most}"
        raise ValueError(f"the canvas of resume has {canvas.shape[1]} tokens, wanted {wanted}")
    return replace(state, canvas=canvas.to(state.ends.device))
