"""Denoising: what a sampler does, step by step, told to whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from torch import Tensor


class Kind(StrEnum):
    """What a forward of a sampler is for."""

    DENOISE = "denoise"
    PREFIX = "prefix"
    COMMIT = "commit"
    UNCOND = "uncond"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a sampler, as it is announced before anything of it has happened.

    Attributes:
        index: steps of this run before it, of whatever kind.
        block: which block is denoised, from 0; the prompt's whole blocks count.
        step: denoising steps of this block before it; a prefix or commit forward has the number of those before it.
        kind: what it is for.
        runs: whether the model runs; a sampler may use probabilities that it still has.
        t: noise level in [0, 1], `batch`; None where the forward has none.
        canvas: all tokens so far, `batch length`.
        masked: where the canvas holds a mask, bool `batch length`.
        window: the columns of the canvas that are the forward's stream.
        state: what the sampler takes as `resume`, to go on from here; `dataclasses.replace(state, canvas=...)` edits it.
    """

    index: int
    block: int
    step: int
    kind: Kind
    runs: bool
    t: Tensor | None
    canvas: Tensor
    masked: Tensor
    window: slice
    state: Any


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a step.

    Attributes:
        logits: as the model returns them, `batch pos d_vocab`; None where the model did not run.
        aligned: the same where row i speaks of the token at column i; models that predict the next token shift.
        log_probs: after the parameterisation, `batch block d_vocab`; None for steps that draw nothing.
        canvas: all tokens after it, `batch length`.
        committed: where a mask became a token, bool `batch length`.
    """

    logits: Tensor | None
    aligned: Tensor | None
    log_probs: Tensor | None
    canvas: Tensor
    committed: Tensor


class Observer(Protocol):
    """Whoever watches a sampler; it may look at everything and change nothing."""

    def before(self, step: Step) -> None:
        """A step is about to happen; if `step.runs`, the next forward of the bridge belongs to it."""

    def after(self, step: Step, outcome: Outcome) -> None:
        """It has happened."""
