"""Samplers for tests of traces: one in plain lines that is truthful, and one that does as it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conformance.denoising import Kind, Outcome, Step

MASK, CONTEXT = 66, 21


@dataclass(frozen=True)
class State:
    canvas: Tensor
    number: int


class Nobody:
    def before(self, step: Step) -> None: ...

    def after(self, step: Step, outcome: Outcome) -> None: ...


def model(bridge: Any, ids: Tensor, t: Tensor | None = None, twice: bool = False) -> Any:
    t = torch.zeros(len(ids)) if t is None else t
    return bridge(torch.cat((ids, ids), 1), timesteps=t) if twice else bridge(ids, timesteps=t, sample_mode=True)


def unmask(
    bridge: Any,
    prompt: Tensor,
    *,
    observer: Any = None,
    resume: State | None = None,
    length: int = 12,
    guided: bool = False,
    twice: bool = False,
    shift: bool = False,
) -> Tensor:
    """Masks become the likeliest tokens, one a step from the left, in blocks of three steps.

    Every third step goes by the logits of the one before, and runs no forward. A `guided` step has an unconditional
    forward before it; with `twice` the model runs on the training layout; with `shift`, row i of its logits is taken
    to speak of column i + 1. The canvas is written in place, to show that nobody else holds on to it.
    """
    watch, index = (Nobody() if observer is None else observer), 0
    state = resume or State(torch.nn.functional.pad(prompt, (0, length - prompt.shape[1]), value=MASK), 0)
    canvas, number, logits = state.canvas.clone(), state.number, None
    window = slice(max(0, length - CONTEXT), length)
    with torch.no_grad():
        while bool((canvas == MASK).any()):
            masked, runs = canvas == MASK, number % 3 != 2 or logits is None
            t, column = masked.float().mean(1), int(masked.any(0).nonzero()[0])
            for kind in (Kind.UNCOND, Kind.DENOISE) if guided and runs else (Kind.DENOISE,):
                here = State(canvas.clone(), number)
                step = Step(index, number // 3, number % 3, kind, runs, t, canvas, masked, window, here)
                watch.before(step)
                logits = model(bridge, canvas[:, window], t, twice) if runs else logits
                shown, committed, log_probs = logits if runs else None, torch.zeros_like(masked), None
                if kind is Kind.DENOISE:
                    aligned = logits.roll(1, 1) if shift else logits
                    log_probs = aligned[..., :MASK].log_softmax(-1)
                    committed[:, column] = masked[:, column]
                    canvas[committed] = log_probs[:, column - window.start].argmax(-1)[committed[:, column]]
                rows = None if shown is None else shown.roll(1, 1) if shift else shown
                watch.after(step, Outcome(shown, rows, log_probs, canvas, committed))
                index += 1
            number += 1
    return canvas


def told(script: str) -> Any:
    """A sampler that does what the words say: they announce, run and report steps of a canvas that stays as it is."""

    def sampler(bridge: Any, prompt: Tensor, *, observer: Any, resume: Any) -> Any:
        window, masked = slice(0, prompt.shape[1]), prompt == MASK
        step, count = None, 0
        for word in script.split():
            what, _, number = word.partition(":")
            if what in ("announce", "silent", "again", "elsewhere"):
                place = 0 if what == "again" else count
                index = count if number == "" else int(number)
                step = Step(index, 0, place, Kind.DENOISE, what != "silent", None, prompt, masked, window, None)
                count += 1
                observer.before(step)
            elif what == "forward":
                model(bridge, prompt)
            elif what == "caught":
                try:
                    model(bridge, prompt)
                except RuntimeError:
                    continue
            elif what == "wrapped":
                try:
                    model(bridge, prompt)
                except RuntimeError as error:
                    raise KeyError("of the sampler") from error
            elif what == "broken":
                raise ZeroDivisionError("of the sampler")
            else:
                observer.after(step, Outcome(None, None, None, prompt, torch.zeros_like(masked)))
        return prompt

    return sampler
