"""LLaDA's sampler: an answer from masks, block by block, the most certain tokens first, with whoever wants to watch.

Source: Nie et al., "Large Language Diffusion Models" (arXiv 2502.09992), low-confidence and random remasking; guidance
without a condition as in "Scaling up Masked Diffusion Models on Text" (arXiv 2410.18514). The authors' script is no
method of their model, so a bridge has none either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..denoising import Kind, Observer, Outcome, Step
from ..reference.draws import generators, uniforms
from ..reference.plan import batch_of
from .llada_plan import Plan, Remasking, checked_ids, mask_of


@dataclass(frozen=True, slots=True, eq=False)
class Unguided:
    """Logits without the prompt, and the canvas that they are of."""

    canvas: Tensor
    logits: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Everything that the rest of a run depends on, between two steps.

    With `dataclasses.replace(state, canvas=...)` the run goes on from an edited canvas. Masks may be put back anywhere
    behind the prompt: blocks are filled from the left.

    Attributes:
        canvas: all tokens, `batch length`.
        block: the one under way, counted from the end of the prompt.
        step: denoising steps of this block before this one.
        noise: states of the rows' generators; a `torch.Generator` of another seed gives another continuation.
        prompt: tokens that were given.
        size: tokens per block.
        mask: the mask's id.
        unguided: logits that hold for as long as the canvas is the one that they are of.
    """

    canvas: Tensor
    block: int
    step: int
    noise: tuple[Tensor, ...]
    prompt: int
    size: int
    mask: int
    unguided: Unguided | None = None


def denoise(
    bridge: Any,
    prompt: Tensor | None = None,
    *,
    length: int | None = None,
    steps: int | None = None,
    block_length: int | None = None,
    temperature: float = 0.0,
    cfg_scale: float = 0.0,
    remasking: Remasking = "low_confidence",
    banned: Sequence[int] = (),
    mask_id: int | None = None,
    seed: int | Sequence[int] = 0,
    observer: Observer | None = None,
    resume: State | None = None,
) -> Tensor:
    """Answer a prompt: ids `batch length`.

    Every forward is of the whole canvas, the masks of later blocks included. What a step reveals stays. The mask
    itself is never drawn, which the authors' script leaves to the training; where that draws none, both agree.

    Args:
        bridge: a booted LLaDA, in eval mode; or whatever is called as one, with its `original_model`.
        prompt: ids `batch length` without masks; it is kept as it is. None begins as many texts as there are seeds.
        length: tokens in the end with the prompt's; the model's context if not given.
        steps: denoising steps in all, the same number for each block; one for each token of a block if not given.
            A block of M masks reveals M / steps of them in each of its steps, the first ones one more. Steps that
            would reveal nothing are left out, forward and all, which the authors' script runs.
        block_length: tokens per block, from the end of the prompt on; the answer is one block if not given. Where it
            does not divide the answer, the last block is shorter.
        temperature: 0 takes the likeliest tokens; T draws from the model's probabilities to the power 1/T.
        cfg_scale: s takes u + (s + 1)(c - u) for the logits, where u are those without the prompt, which cost a
            forward more a step.
        remasking: which tokens a step reveals: those of which the model is most certain ("low_confidence" is what goes
            back under the mask), or any ("random").
        banned: ids that are never drawn and have no probability, such as what would end the text early.
        mask_id: the mask; that of the model's config if not given.
        seed: of the first row, the others' follow; or one for each row. A row's tokens do not depend on the others.
        observer: is told of every step, and changes no token.
        resume: a `Step.state` to go on from, with the arguments of that run; `seed` is not used then.

    Raises:
        ValueError: an argument that cannot be, by its name.
    """
    model = bridge.original_model
    config, device = model.config, next(model.parameters()).device
    d_vocab, mask = int(config.vocab_size), mask_of(config, mask_id)
    given = None if prompt is None else checked_ids(prompt, d_vocab, mask, "prompt")
    plan = Plan.of(
        n=int(config.max_sequence_length),
        d_vocab=d_vocab,
        mask=mask,
        prompt=given.shape[1] if given is not None else resume.prompt if isinstance(resume, State) else 0,
        length=length,
        steps=steps,
        block=block_length,
        temperature=temperature,
        cfg_scale=cfg_scale,
        remasking=remasking,
        banned=banned,
    )
    if model.training:
        raise ValueError("the model is in training mode, wanted eval: dropout would draw, too (call bridge.eval())")
    if resume is None:
        batch = batch_of(given, seed)
        canvas = torch.full((batch, plan.length), mask, device=device)
        if given is not None:
            canvas[:, : plan.prompt] = given.to(device)
        noise = tuple(generator.get_state() for generator in generators(seed, batch))
        state = State(canvas, 0, 0, noise, plan.prompt, plan.block, mask)
    else:
        state = _checked(resume, given, plan, device)
    with torch.no_grad():
        return _Run(bridge, plan, state, observer).through()


def inputs_of(step: Step) -> Mapping[str, Any]:
    """What a step's forward gets besides its window: the unguided one does not see the prompt."""
    if step.kind is not Kind.UNCOND:
        return {}
    return {"input_ids": _unprompted(step.canvas, step.state.prompt, step.state.mask)}


def _unprompted(canvas: Tensor, prompt: int, mask: int) -> Tensor:
    return torch.cat((torch.full_like(canvas[:, :prompt], mask), canvas[:, prompt:]), dim=1)


def _checked(state: State, prompt: Tensor | None, plan: Plan, device: torch.device) -> State:
    """A state to go on from, with its canvas in order, as it may have been edited."""
    if not isinstance(state, State):
        raise ValueError(f"resume is {type(state).__name__}, wanted a Step.state")
    if (state.size, state.mask) != (plan.block, plan.mask):
        was, now = (f"blocks of {size} with mask {mask}" for size, mask in ((state.size, state.mask), plan.kind))
        raise ValueError(f"resume is of a run in {was}, wanted block_length and mask_id of that run, not {now}")
    canvas = checked_ids(state.canvas, plan.d_vocab, plan.mask, "the canvas of resume", given=state.prompt)
    rows = len(state.noise)
    if tuple(canvas.shape) != (rows, plan.length):
        raise ValueError(f"the canvas of resume is {list(canvas.shape)}, wanted {[rows, plan.length]}")
    if prompt is not None and tuple(prompt.shape) != (rows, state.prompt):
        raise ValueError(f"prompt is {list(prompt.shape)}, wanted that of resume, {[rows, state.prompt]}")
    return replace(state, canvas=canvas.to(device))


class _Run:
    """One run under way. Tensors are replaced, never written to, so that states can share them."""

    def __init__(self, bridge: Any, plan: Plan, state: State, observer: Observer | None) -> None:
        self.bridge, self.plan, self.observer, self.begun = bridge, plan, observer, state
        self.canvas, self.unguided = state.canvas, state.unguided
        self.generators = generators([0] * len(state.noise), len(state.noise))
        for generator, noise in zip(self.generators, state.noise, strict=True):
            generator.set_state(noise)
        self.block, self.step, self.index = 0, 0, 0

    def through(self) -> Tensor:
        """Fill one block after another; the texts."""
        for block in range(self.plan.blocks):
            self.block = block
            self.step = self.begun.step if self.begun.block == block else 0
            while bool(self._masked().any()):
                self._denoise()
        return self.canvas

    @property
    def columns(self) -> slice:
        """The block."""
        start = self.plan.prompt + self.block * self.plan.block
        return slice(start, min(start + self.plan.block, self.plan.length))

    def _masked(self) -> Tensor:
        return self.canvas[:, self.columns] == self.plan.mask

    def _denoise(self) -> None:
        """One step: the model says what could stand at the masks, and some of them become tokens."""
        plan, columns, masked = self.plan, self.columns, self._masked()
        guides = self._without_prompt() if plan.cfg_scale else None
        step = self._announce(Kind.DENOISE)
        logits: Tensor = self.bridge(self.canvas)
        guided = logits[:, columns].double()
        if guides is not None:
            without = guides[:, columns].double()
            guided = without + (plan.cfg_scale + 1) * (guided - without)
        tokens, revealed = self._revealed(guided, masked)
        after = torch.where(revealed, tokens, self.canvas[:, columns])
        before, behind = self.canvas[:, : columns.start], self.canvas[:, columns.stop :]
        self.canvas, self.step = torch.cat((before, after, behind), dim=1), self.step + 1
        if step is not None:
            rows = slice(columns.start, plan.length)
            self._report(step, logits, said(logits[:, rows], step.canvas[:, rows], plan.mask))
        self.index += 1

    def _without_prompt(self) -> Tensor:
        """Logits of the canvas whose prompt is masked, known from before or by a forward of their own."""
        kept = self.unguided
        if kept is None or not torch.equal(kept.canvas, self.canvas):
            step = self._announce(Kind.UNCOND)
            logits: Tensor = self.bridge(_unprompted(self.canvas, self.plan.prompt, self.plan.mask))
            kept = self.unguided = Unguided(self.canvas, logits)
            if step is not None:
                self._report(step, logits, None)
            self.index += 1
        return kept.logits

    def _revealed(self, guided: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """A token for each place of the block, and at which of them it is taken; all `batch block`."""
        plan, drawing = self.plan, masked.any(-1)
        guided = guided.index_fill(-1, torch.tensor(plan.banned, dtype=torch.long, device=guided.device), -torch.inf)
        scores = guided.index_fill(-1, torch.tensor(plan.mask, device=guided.device), -torch.inf)
        if plan.temperature:
            # As exp(scores) / (-log u)^T, which is largest at the same token, and may overflow.
            noise = uniforms(self.generators, drawing, *scores.shape[1:])
            scores = scores - plan.temperature * noise.log().neg().log()
        tokens = scores.argmax(-1)
        if plan.remasking == "random":
            certainty = uniforms(self.generators, drawing, scores.shape[1])
        else:
            certainty = guided.softmax(-1).gather(-1, tokens[..., None])[..., 0]
        order = certainty.masked_fill(~masked, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        left = max(plan.steps - self.step, 1)
        share = -(-masked.sum(-1, keepdim=True) // left)
        return tokens, masked & (order.argsort(-1) < share)

    def _announce(self, kind: Kind) -> Step | None:
        if self.observer is None:
            return None
        noise = tuple(generator.get_state() for generator in self.generators)
        plan, canvas = self.plan, self.canvas
        state = State(canvas, self.block, self.step, noise, self.plan.prompt, plan.block, plan.mask, self.unguided)
        masked = canvas == plan.mask
        t = masked[:, self.plan.prompt :].double().mean(-1)
        step = Step(self.index, self.block, self.step, kind, True, t, canvas, masked, slice(0, plan.length), state)
        self.observer.before(step)
        return step

    def _report(self, step: Step, logits: Tensor, log_probs: Tensor | None) -> None:
        assert self.observer is not None
        committed = step.masked & (self.canvas != self.plan.mask)
        self.observer.after(step, Outcome(logits, logits, log_probs, self.canvas, committed))


def said(logits: Tensor, tokens: Tensor, mask: int) -> Tensor:
    """Log-probabilities of the clean tokens, `... pos d_vocab`: the model's at a mask, and what is revealed stays."""
    other = tokens[..., None] != torch.arange(logits.shape[-1], device=logits.device)
    certain = torch.zeros_like(logits, dtype=torch.float64).masked_fill(other, -torch.inf)
    return torch.where((tokens == mask)[..., None], logits.double().log_softmax(-1), certain)
