"""Native samplers: the loop that a remote model brings along, told to an observer forward by forward.

Nothing of it announces itself. What a forward is for is read off its arguments, by a function that the spec has for
its model; what became of a step shows in the canvas of the next one, and in the end in the text.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .denoising import Kind, Observer, Outcome, Step, aligned
from .taps import logits_of


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """A forward that is about to run.

    Attributes:
        number: forwards before it.
        inputs: its arguments, by the names that the model's forward has for them.
        prompt: what the run began with, ids `batch length`.
        options: those of the sampler.
        config: the remote model's.
        last: what the forward before it was, None for the first.
    """

    number: int
    inputs: Mapping[str, Any]
    prompt: Tensor
    options: Mapping[str, Any]
    config: Any
    last: Label | None


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """What a forward is: see `Step` for the words; `mask` is the mask's id, None where there is none."""

    kind: Kind
    block: int
    t: Tensor | None
    canvas: Tensor
    window: slice
    mask: int | None


Labelling = Callable[[Forward], Label]


def sampler(label: Labelling, *, shift: int = 0) -> Callable[..., Tensor]:
    """A `Sampler.sample` that runs `bridge.diffusion_generate`.

    The sampler draws from torch's global generator, which is seeded for the run and put back; so a seed stands for a
    whole batch. Its option `length` counts the tokens in the end, the prompt's included; others go on as they are.
    """

    def sample(
        bridge: Any,
        prompt: Tensor,
        *,
        length: int,
        seed: int = 0,
        observer: Observer | None = None,
        resume: Any = None,
        **options: Any,
    ) -> Tensor:
        """Ids `batch length` that start with the prompt."""
        if resume is not None:
            raise ValueError("resume: the model's own sampler begins with a prompt, and has no state to go on from")
        new = length - prompt.shape[1]
        watch = _Watch(bridge.original_model, label, shift, prompt, options, observer)
        with torch.no_grad(), torch.random.fork_rng(), watch:
            torch.manual_seed(seed)
            text: Tensor = bridge.diffusion_generate(prompt, max_new_tokens=new, **options)
            watch.end(text)
        return text

    return sample


@dataclass(slots=True)
class _Watch:
    """The forwards of one run, each told when it begins, and its outcome when the next one does."""

    model: Any
    label: Labelling
    shift: int
    prompt: Tensor
    options: Mapping[str, Any]
    observer: Observer | None
    handles: list[Any] = field(default_factory=list)
    denoised: Counter[int] = field(default_factory=Counter)
    number: int = 0
    last: Label | None = None
    open: Step | None = None
    logits: Tensor | None = None

    def __enter__(self) -> None:
        if self.observer is not None:
            # Before whoever else listens, who is to know the step that the forward belongs to.
            entering = self.model.register_forward_pre_hook(self._entered, with_kwargs=True, prepend=True)
            self.handles = [entering, self.model.register_forward_hook(self._left)]

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _entered(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
        inputs = {**inputs, **inputs.pop("kwargs", {})}
        label = self.label(Forward(self.number, inputs, self.prompt, self.options, model.config, self.last))
        canvas = label.canvas.clone()
        self._close(canvas)
        step = Step(
            index=self.number,
            block=label.block,
            step=self.denoised[label.block],
            kind=label.kind,
            runs=True,
            t=label.t,
            canvas=canvas,
            masked=_masked(canvas, label.mask),
            window=label.window,
            state=None,
        )
        self.denoised[label.block] += label.kind is Kind.DENOISE
        self.number, self.last, self.open = self.number + 1, label, step
        assert self.observer is not None
        self.observer.before(step)

    def _left(self, model: Any, args: tuple[Any, ...], output: Any) -> None:
        # Samplers work on what they get, in place.
        self.logits = logits_of(output).clone()

    def _close(self, canvas: Tensor) -> None:
        """The step under way is over, and has left this canvas."""
        step, label = self.open, self.last
        if step is None or label is None or self.observer is None:
            return
        # A canvas may grow by a block of masks from one step to the next.
        canvas = canvas[:, : step.canvas.shape[1]]
        rows = None if self.logits is None else aligned(self.logits, self.shift)
        drawn = rows is not None and label.kind is Kind.DENOISE
        self.open, told = None, self.logits
        self.observer.after(
            step,
            Outcome(
                logits=told,
                aligned=rows,
                log_probs=rows.double().log_softmax(-1) if drawn and rows is not None else None,
                canvas=canvas,
                committed=step.masked & ~_masked(canvas, label.mask),
            ),
        )

    def end(self, text: Tensor) -> None:
        """The run is over; what the text leaves out of the canvas stays as it was."""
        if self.open is not None:
            self._close(torch.cat((text, self.open.canvas[:, text.shape[1] :]), dim=1)[:, : self.open.canvas.shape[1]])


def _masked(canvas: Tensor, mask: int | None) -> Tensor:
    return torch.zeros_like(canvas, dtype=torch.bool) if mask is None else canvas == mask
