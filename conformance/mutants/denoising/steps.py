"""Steps that are not what they are said to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import having
from .sampling import Teller, commits, forwards, telling, telling_of

if TYPE_CHECKING:
    from ...denoising import Outcome, Step
    from ...subject import Boot


@mutant(kills="denoising/forwards")
def runs_every_forward_twice(boot: Boot) -> None:
    """Every forward runs twice, once for its logits and once for the hooks, and edits and caches meet both."""

    def run(bridge: Any) -> Callable[..., Any]:
        def forward(ids: Any, **arguments: Any) -> Any:
            # A block that is kept twice is another defect.
            if not commits(boot, arguments):
                bridge(ids, **arguments)
            return bridge(ids, **arguments)

        return forward

    forwards(boot, run)


@mutant(kills="denoising/forwards")
def keeps_commits_to_itself(boot: Boot) -> None:
    """The forward that keeps a finished block is not announced, and is taken for one of the block after it."""
    telling_of(boot, lambda step, _: step.kind == "commit", "a step that commits")

    class Silent(Teller):
        told = 0

        def before(self, step: Step) -> None:
            if step.kind != "commit":
                super().before(replace(step, index=self.told))
                self.told += 1

        def after(self, step: Step, outcome: Outcome) -> None:
            if step.kind != "commit":
                super().after(step, outcome)

    telling(boot, Silent)


@mutant(kills="denoising/forwards")
def always_says_that_it_runs(boot: Boot) -> None:
    """A step that draws from probabilities which it still has is announced as one that runs the model."""
    telling_of(boot, lambda step, _: not step.runs, "a step without a forward")

    class Busy(Teller):
        def step(self, step: Step) -> Step:
            return replace(step, runs=True)

    telling(boot, Busy)


@mutant(kills="denoising/forwards")
def says_it_too_late(boot: Boot) -> None:
    """Forwards that draw nothing are announced when they are over."""
    telling_of(boot, lambda step, _: step.kind != "denoise", "a forward that draws nothing")

    class Late(Teller):
        def before(self, step: Step) -> None:
            self.latest = step
            if step.kind == "denoise":
                self.observer.before(step)

        def after(self, step: Step, outcome: Outcome) -> None:
            if step.kind != "denoise":
                self.observer.before(step)
            self.observer.after(step, outcome)

    telling(boot, Late)


@mutant(kills="denoising/forwards")
def never_says_that_it_is_over(boot: Boot) -> None:
    """Of a forward that draws nothing no outcome is told, and the next step begins inside of it."""
    telling_of(boot, lambda step, _: step.kind != "denoise", "a forward that draws nothing")

    class Open(Teller):
        told = 0

        def step(self, step: Step) -> Step:
            return replace(step, index=self.told)

        def after(self, step: Step, outcome: Outcome) -> None:
            if step.kind == "denoise":
                super().after(step, outcome)
                self.told += 1

    telling(boot, Open)


def _called(boot: Boot, change: Callable[[Step], dict[str, Any]]) -> None:
    class Calls(Teller):
        def step(self, step: Step) -> Step:
            return replace(step, **change(step))

    telling(boot, Calls)


@mutant(kills="denoising/labels")
def commits_are_denoising_steps(boot: Boot) -> None:
    """The forward that keeps a finished block is called a denoising step, and averages over these count its canvas."""
    telling_of(boot, lambda step, _: step.kind == "commit", "a step that commits")
    _called(boot, lambda step: {"kind": type(step.kind)("denoise")} if step.kind == "commit" else {})


@mutant(kills="denoising/labels")
def prefixes_are_commits(boot: Boot) -> None:
    """The forward that keeps a block of the prompt is called a commit, though nothing was denoised."""
    telling_of(boot, lambda step, _: step.kind == "prefix", "a forward on a block of the prompt")
    _called(boot, lambda step: {"kind": type(step.kind)("commit")} if step.kind == "prefix" else {})


@mutant(kills="denoising/labels")
def commits_are_prefixes(boot: Boot) -> None:
    """The forward that keeps a block of the text is called a prefix, as if it had been given."""
    telling_of(boot, lambda step, _: step.kind == "commit", "a step that commits")
    _called(boot, lambda step: {"kind": type(step.kind)("prefix")} if step.kind == "commit" else {})


@mutant(kills="denoising/labels")
def counts_steps_of_the_run(boot: Boot) -> None:
    """The number of a step in its block is that in the run."""
    telling_of(boot, lambda step, _: step.step != step.index, "a second block")
    _called(boot, lambda step: {"step": step.index})


@mutant(kills="denoising/noise")
def sigma_for_t(boot: Boot) -> None:
    """What is told as t is sigma, which the model is given and which goes beyond 1."""
    _called(boot, lambda step: {} if step.t is None else {"t": 4 * step.t})


@mutant(kills="denoising/noise")
def time_runs_backwards(boot: Boot) -> None:
    """What is told as the noise level is the share of the way that lies behind."""
    _called(boot, lambda step: {} if step.t is None else {"t": 1 - step.t})


@mutant(kills="denoising/noise")
def runs_at_another_level(boot: Boot) -> None:
    """The model is given another noise level than the one that is told; released models ignore it, others do not."""
    from ...layout import PerRow

    facts = having(boot.spec.sampler, "a sampler")
    layout = next(layout for layout in boot.spec.layouts if layout.name == facts.layout)
    levels = [name for name, value in layout.arguments.items() if isinstance(value, PerRow)]
    having(levels or None, "a noise level")

    def run(bridge: Any) -> Callable[..., Any]:
        return lambda ids, **given: bridge(ids, **{n: v / 2 if n in levels else v for n, v in given.items()})

    forwards(boot, run)


def _ends(boot: Boot, change: Callable[[Step, Outcome], dict[str, Any]]) -> None:
    class Ends(Teller):
        def outcome(self, step: Step, outcome: Outcome) -> Outcome:
            return replace(outcome, **change(step, outcome))

    telling(boot, Ends)


@mutant(kills="denoising/masks")
def masks_the_whole_block(boot: Boot) -> None:
    """What is told as masked is the block, its tokens included."""

    def whole(step: Step) -> dict[str, Any]:
        return {"masked": step.masked | step.masked.any(0, keepdim=True)}

    _called(boot, whole)


@mutant(kills="denoising/masks")
def commits_what_it_draws(boot: Boot) -> None:
    """What is told as committed is every mask for which something was drawn, not the one that keeps its draw."""
    _ends(boot, lambda step, _: {"committed": step.masked})


@mutant(kills="denoising/masks")
def puts_masks_back(boot: Boot) -> None:
    """A token that a step has revealed is a mask again after it."""

    def again(step: Step, outcome: Outcome) -> dict[str, Any]:
        return {"canvas": step.canvas.where(outcome.committed, outcome.canvas)} if step.step == 1 else {}

    _ends(boot, again)


@mutant(kills="denoising/masks")
def draws_again_what_was_drawn(boot: Boot) -> None:
    """A token is drawn again in a later step, though in absorbing diffusion it stays."""

    class Redraws(Teller):
        fresh: Any = None

        def outcome(self, step: Step, outcome: Outcome) -> Outcome:
            again, self.fresh = self.fresh, outcome.committed
            left = (outcome.committed != step.masked).any()
            if again is None or again.shape != self.fresh.shape or not left:
                return outcome
            return replace(outcome, canvas=outcome.canvas.where(~again, (outcome.canvas - 1).clamp(min=0)))

    telling(boot, Redraws)


@mutant(kills="denoising/masks")
def draws_the_mask(boot: Boot) -> None:
    """The mask's own id is drawn for a token, and counts as one: a text ends with masks in it."""
    mask = having(boot.spec.mask_token, "a mask token").of(boot.sizes)

    class Draws(Teller):
        def outcome(self, step: Step, outcome: Outcome) -> Outcome:
            canvas = outcome.canvas.clone()
            # Behind the text's end, where none is looked for.
            canvas[:, -1] = mask
            return replace(outcome, canvas=canvas, committed=outcome.committed & (canvas == outcome.canvas))

    telling(boot, Draws)


@mutant(kills="denoising/own-storage")
def one_canvas_for_all(boot: Boot) -> None:
    """Every step is told the same canvas, which the run writes on."""
    import torch

    class Live(Teller):
        canvas = torch.empty(0)

        def outcome(self, step: Step, outcome: Outcome) -> Outcome:
            if self.canvas.shape != outcome.canvas.shape:
                self.canvas = outcome.canvas.clone()
            return replace(outcome, canvas=self.canvas.copy_(outcome.canvas))

    telling(boot, Live)


@mutant(kills="denoising/own-storage")
def log_probabilities_become_probabilities(boot: Boot) -> None:
    """Log-probabilities are exponentiated in place once they were told."""

    class Spent(Teller):
        spent: Any = None

        def outcome(self, step: Step, outcome: Outcome) -> Outcome:
            if self.spent is not None:
                self.spent.exp_()
            self.spent = None if outcome.log_probs is None else outcome.log_probs.clone()
            return replace(outcome, log_probs=self.spent)

    telling(boot, Spent)
