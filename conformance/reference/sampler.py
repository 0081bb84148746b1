"""BD3LM's sampler: text block by block, each block from masks to tokens, with whoever wants to watch.

Source: Arriola et al., "Block Diffusion" (arXiv 2503.09573), algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..denoising import Kind, Observer, Outcome, Step
from .draws import diluted, first_hit, generators, nucleus, one_of, race, sigma_of, subs, uniforms
from .kv import cache_for
from .plan import Plan, Times, batch_of, checked_ids, first_canvas, special_id
from .state import Kept, SamplerState, beginning, checked
from .stops import RUNNING, first_end, monotonous

LONG = 8
"""Runs of more blocks than this show how far they are."""


def denoise(
    bridge: Any,
    prompt: Tensor | None = None,
    *,
    length: int | None = None,
    times: Times = "first-hitting",
    steps: int = 5000,
    nucleus: float = 0.9,
    cached: bool = False,
    until_eos: bool = False,
    min_entropy: float | None = 4.0,
    entropy_window: int = 256,
    bos: int | None = None,
    eos: int | None = None,
    seed: int | Sequence[int] = 0,
    observer: Observer | None = None,
    resume: SamplerState | None = None,
    progress: bool | None = None,
) -> Tensor:
    """Continue a prompt, or begin a text: ids `batch length`.

    Args:
        bridge: a booted BD3LM, in eval mode.
        prompt: ids `batch length` without masks, of any length; it is kept as it is. None begins as many texts as
            there are seeds.
        length: tokens in the end with the prompt's; the model's context if not given. It may be longer than that, and
            need not end on a block: the last block is denoised whole, and cut.
        times: "first-hitting" reveals one token a step, at a random time; "grid" takes the times t = 1 - i/T for steps
            i = 0 ... T-1, and goes from t to s = t - 1/T in each, so it never stands at t = 0 and its last one
            reveals what is left.
        steps: T, and the most that a block takes.
        nucleus: probability mass that is drawn from.
        cached: keep keys and values of finished blocks. Beyond the context, tokens differ from those without.
        until_eos: whether a text ends with the first `eos` that the model writes. The prompt's do not count, nor does
            the one at position 0, with which texts of this model begin.
        min_entropy: nats that the last `entropy_window` tokens of a longer text must have; a text with less ends
            before them, as it repeats itself. None for any.
        entropy_window: see there.
        bos: first token where there is no prompt; the tokenizer's if not given, and none if it has none.
        eos: what ends a text; the tokenizer's if not given. Rows that end before others are filled up with it
            (`stops.lengths` counts the tokens before).
        seed: of the first row, the others' follow; or one for each row. A row's tokens do not depend on the others.
        observer: is told of every step, and changes no token.
        resume: a `Step.state` to go on from, with the arguments of that run; `seed` is not used then.
        progress: a bar on stderr; if not given, for long runs on a terminal.

    Prefix and commit forwards are about clean tokens, so their noise level is 0.
    """
    model = bridge.original_model
    config, device = model.config, next(model.parameters()).device
    d_vocab = int(config.vocab_size)
    given = None if prompt is None else checked_ids(prompt, d_vocab, "prompt")
    plan = Plan(
        n=config.model_length,
        block=config.block_size,
        d_vocab=d_vocab,
        prompt=0 if given is None else given.shape[1],
        length=config.model_length if length is None else length,
        times=times,
        steps=steps,
        nucleus=nucleus,
        cached=cached,
        until_eos=until_eos,
        eos=special_id(bridge, "eos", eos, d_vocab),
        min_entropy=min_entropy,
        entropy_window=entropy_window,
    )
    plan.check(config)
    if model.training:
        raise ValueError("the model is in training mode, wanted eval: dropout would draw, too (call bridge.eval())")
    if resume is None:
        first = special_id(bridge, "bos", bos, d_vocab)
        state = beginning(first_canvas(given, batch_of(given, seed), first, plan, device), seed, plan.block)
    else:
        state = checked(resume, given, plan)
    with torch.no_grad(), cache_for(model, len(state.canvas) if cached else None):
        run = _Run(bridge, plan, state, observer)
        return run.through(_bar(plan.blocks, progress))


def _bar(blocks: int, progress: bool | None) -> Iterable[int]:
    # None as `disable` is tqdm's way to be silent where stderr is no terminal.
    shown = (None if blocks > LONG else True) if progress is None else not progress
    bar: Iterable[int] = tqdm(range(blocks), desc="denoise", unit="block", disable=shown)
    return bar


class _Run:
    """One run under way. Tensors are replaced, never written to, so that states can share them."""

    def __init__(self, bridge: Any, plan: Plan, state: SamplerState, observer: Observer | None) -> None:
        self.bridge, self.plan, self.observer = bridge, plan, observer
        self.canvas, self.ends = state.canvas, state.ends
        self.resumed: SamplerState | None = state
        self.generators = generators([0] * len(state.noise), len(state.noise))
        for generator, noise in zip(self.generators, state.noise, strict=True):
            generator.set_state(noise)
        self.block, self.step, self.index = 0, 0, 0
        self.t, self.kept = state.t, state.kept

    def through(self, blocks: Iterable[int]) -> Tensor:
        """Go through all blocks, or until no row goes on; the texts, filled up."""
        for block in blocks:
            if bool((self.ends < RUNNING).all()):
                break
            self._enter(block)
            while bool((self._tokens() == self.plan.mask).any()):
                self._denoise()
            if self.plan.cached:
                self._keep(Kind.COMMIT if self.step else Kind.PREFIX)
            if self.step:
                self._stop()
        return self.canvas[:, : min(self.plan.length, int(self.ends.max()))]

    @property
    def end(self) -> int:
        """The column after the block."""
        return (self.block + 1) * self.plan.block

    def _tokens(self) -> Tensor:
        return self.canvas[:, self.end - self.plan.block : self.end]

    def _enter(self, block: int) -> None:
        """A block begins, or goes on where the state was taken."""
        self.block, self.step, self.t = block, 0, torch.ones_like(self.t)
        if self.canvas.shape[1] < self.end:
            filler = self.canvas.new_full((len(self.canvas), self.plan.block), self.plan.mask)
            if self.plan.eos is not None:
                filler[self.ends < RUNNING] = self.plan.eos
            self.canvas = torch.cat((self.canvas, filler), dim=1)
        if self.resumed is not None and self.resumed.block == block:
            self.step, self.t = self.resumed.step, self.resumed.t

    def _denoise(self) -> None:
        """One step: the model says what could stand at the masks, and some of them become tokens."""
        plan, state = self.plan, self._state()
        tokens = self._tokens()
        masked = tokens == plan.mask
        drawing = masked.any(-1)
        steered = uniforms(self.generators, drawing, 2) if plan.times == "first-hitting" else None
        self.t = self._time(steered, masked)
        valid = self._valid()
        runs = bool((drawing & ~valid).any())
        step = self._announce(Kind.DENOISE, runs, state)
        logits = self._ask(valid) if runs else None
        assert self.kept is not None
        kept, noise = self.kept, uniforms(self.generators, drawing, plan.block, plan.d_vocab)
        if steered is not None:
            drawn, revealed = race(kept.probs, noise), one_of(masked, steered[:, 1])
        else:
            s = torch.full_like(self.t, self._left / plan.steps)
            drawn, revealed = race(diluted(kept.probs, plan.mask, self.t, s), noise), masked
        after = torch.where(revealed, drawn, tokens)
        self.canvas = torch.cat((self.canvas[:, : self.end - plan.block], after, self.canvas[:, self.end :]), dim=1)
        if not bool(((after == tokens).all(-1) & drawing).any()):
            self.kept = None
        self.step += 1
        self._report(step, logits, self._true(kept.log_probs, tokens, drawing))

    def _true(self, log_probs: Tensor, tokens: Tensor, drawing: Tensor) -> Tensor:
        """Log-probabilities of the tokens as they are: of a row that is full, those kept are of its last mask."""
        if bool(drawing.all()):
            return log_probs
        return torch.where(drawing[:, None, None], log_probs, subs(log_probs, tokens, self.plan.mask))

    def _time(self, steered: Tensor | None, masked: Tensor) -> Tensor:
        """The noise level of this step, float64 `batch`."""
        if steered is not None:
            return first_hit(self.t, steered[:, 0], masked.sum(-1))
        return torch.full_like(self.t, (self._left + 1) / self.plan.steps)

    @property
    def _left(self) -> int:
        """Steps of the grid after this one; masks that were put back after the last are for that one again."""
        return max(self.plan.steps - self.step - 1, 0)

    def _valid(self) -> Tensor:
        """Rows whose probabilities still hold, bool `batch`."""
        canvas = self.canvas[:, : self.end]
        if self.kept is None or self.kept.canvas.shape != canvas.shape:
            return torch.zeros(len(canvas), dtype=torch.bool, device=canvas.device)
        return (self.kept.canvas == canvas).all(-1)

    def _window(self) -> slice:
        reach = self.plan.block if self.plan.cached else self.plan.n
        return slice(max(self.end - reach, 0), self.end)

    def _forward(self, t: Tensor, **extra: bool) -> Tensor:
        ids, sigma = self.canvas[:, self._window()], sigma_of(t).float()
        logits: Tensor = self.bridge(ids, timesteps=sigma, sample_mode=True, **extra)
        return logits

    def _ask(self, valid: Tensor) -> Tensor:
        """Run the model, and keep what it says of the rows of which nothing is known."""
        plan = self.plan
        logits = self._forward(self.t, **({"store_kv": False} if plan.cached else {}))
        log_probs = subs(logits[:, -plan.block :], self._tokens(), plan.mask)
        probs = nucleus(log_probs.exp(), plan.nucleus)
        if self.kept is not None and bool(valid.any()):
            log_probs = torch.where(valid[:, None, None], self.kept.log_probs, log_probs)
            probs = torch.where(valid[:, None, None], self.kept.probs, probs)
        self.kept = Kept(self.canvas[:, : self.end], log_probs, probs)
        return logits

    def _keep(self, kind: Kind) -> None:
        """Let the cache have the block's keys and values."""
        step = self._announce(kind, True, self._state())
        self._report(step, self._forward(torch.zeros_like(self.t), store_kv=True), None)

    def _stop(self) -> None:
        """See which texts have ended in this block, and fill them up."""
        plan, canvas = self.plan, self.canvas[:, : self.end]
        if plan.eos is None:
            return
        ends = self.ends
        if plan.until_eos:
            ends = torch.minimum(ends, first_end(canvas, plan.eos, max(plan.prompt, 1)))
        if plan.min_entropy is not None:
            cut = monotonous(canvas, plan.entropy_window, plan.min_entropy, plan.prompt)
            ends = torch.where(self.ends < RUNNING, ends, torch.minimum(ends, cut))
        self.ends = ends
        columns = torch.arange(self.canvas.shape[1], device=canvas.device)
        self.canvas = self.canvas.masked_fill(columns >= ends[:, None], plan.eos)

    def _state(self) -> SamplerState | None:
        """What to go on from; nobody needs it who does not watch."""
        if self.observer is None:
            return None
        noise = tuple(generator.get_state() for generator in self.generators)
        return SamplerState(self.canvas, self.block, self.step, self.t, noise, self.ends, self.plan.block, self.kept)

    def _announce(self, kind: Kind, runs: bool, state: SamplerState | None) -> Step | None:
        if self.observer is None:
            return None
        t = self.t if kind is Kind.DENOISE else None
        masked = self.canvas == self.plan.mask
        step = Step(self.index, self.block, self.step, kind, runs, t, self.canvas, masked, self._window(), state)
        self.observer.before(step)
        return step

    def _report(self, step: Step | None, logits: Tensor | None, log_probs: Tensor | None) -> None:
        self.index += 1
        if self.observer is not None and step is not None:
            committed = step.masked & (self.canvas != self.plan.mask)
            self.observer.after(step, Outcome(logits, logits, log_probs, self.canvas, committed))
