"""Watching: whoever looks at a run, edits one of its steps or goes on from it. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from . import runs
from .steps import mislabelled, misreported

if TYPE_CHECKING:
    from torch import Tensor

    from ...denoising import Outcome, Step
    from ...judge import Evidence
    from ...subject import Boot


@requirement("denoising/observers", level=MUST, needs=runs.NEEDS)
def observers(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """A run that is watched, with a hook that only looks at every place, MUST have the tokens of one that is not.

    What is seen is to be what would have happened; an observer that costs a random number sees another text.
    """
    import torch

    if runs.declined(boot, evidence):
        return
    run = runs.usual(boot)
    alone = runs.sample(boot, run.prompt, seed=1)
    if not torch.equal(run.tokens, alone):
        yield Finding("other-tokens", "observer", got="other tokens", want="those of a run that nobody watches")
    pair = boot.small.pairs[runs.sampler_of(boot).layout]
    with boot.small.bridge.hooks(fwd_hooks=[(pair.names.__contains__, lambda tensor, hook: None)]):
        hooked = runs.watched(boot, run.prompt)
    if not torch.equal(run.tokens, hooked.tokens):
        yield Finding("other-tokens", "hooks", got="other tokens", want="those of a run without hooks")


@requirement("denoising/edits", level=MUST, needs=("interventions/edits", *runs.NEEDS))
def edits(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """An edit that stands during one step MUST leave every canvas before that step as it was, and MUST reach the logits
    of the step and the tokens after it.

    Steering on a schedule asks at which step a text is decided; an edit that leaks into other steps answers wrongly.
    """
    import torch

    if runs.declined(boot, evidence):
        return
    # Of many rows, one will draw another token where the model says something else.
    given = runs.drawn(boot, rows=8, seed=3)
    run = runs.watched(boot, given)
    steps = [seen.step.index for seen in runs.of(run.steps, "denoise") if seen.step.runs]
    same = []
    for index in (steps[len(steps) // 4], steps[len(steps) // 2]):
        edited = runs.watched(boot, given, also=Editor(boot, index))
        before = zip(run.steps[: index + 1], edited.steps[: index + 1], strict=False)
        if any(not torch.equal(one.step.canvas, other.step.canvas) for one, other in before):
            yield Finding("changed-earlier", "step.canvas", got="another canvas", want="those without an edit")
            return
        if not _differ(run, edited, index):
            yield Finding("not-reached", "outcome.logits", got="the same logits", want="those of an edited forward")
            return
        same.append(torch.equal(run.canvas, edited.canvas))
    if all(same):
        yield Finding("not-reached", "tokens", got="the same tokens", want="other ones after the edit")


def _differ(run: runs.Run, edited: runs.Run, index: int) -> bool:
    """Whether a step has other logits."""
    from ...compare import distance

    got, want = edited.steps[index].outcome.logits, run.steps[index].outcome.logits
    return got is not None and want is not None and distance(got, want) > 0.1


class Editor:
    """An observer under which the residual stream is another, as it enters the first layer, during one step."""

    def __init__(self, boot: Boot, index: int) -> None:
        self.bridge, self.index, self.standing = boot.small.bridge, index, ExitStack()
        self.name = boot.small.pairs[runs.sampler_of(boot).layout].entering(0)

    def before(self, step: Step) -> None:
        """Attach."""
        if step.index == self.index:
            hooks = [(self.name, lambda tensor, hook: another(tensor))]
            self.standing.enter_context(self.bridge.hooks(fwd_hooks=hooks))

    def after(self, step: Step, outcome: Outcome) -> None:
        """Take it off."""
        self.standing.close()


def another(tensor: Tensor) -> Tensor:
    """A tensor of the same shape that has little to do with this one."""
    return 5 - 3 * tensor.roll(1, dims=-1)


@requirement("denoising/resume", level=MUST, needs=runs.NEEDS)
def resume(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Going on from the state of a step MUST give the rest of the run and nothing before it; from an edited canvas the
    model MUST see the edit in the first step, and what it holds MUST be in the text.

    Counterfactual runs change one token and go on; whatever else differs is taken for its effect.
    """
    import torch

    if runs.declined(boot, evidence):
        return
    if not runs.sampler_of(boot).resumable:
        yield from _not_resumed(boot, evidence)
        return
    for case, run in runs.plain(boot):
        start = _amid(run)
        state = start.step.state
        again = runs.watched(boot, run.prompt, resume=state, **run.options)
        rest = [*(seen.step.canvas for seen in run.steps[start.step.index :]), run.canvas]
        got = [*(seen.step.canvas for seen in again.steps), again.canvas]
        same = len(rest) == len(got) and all(map(torch.equal, rest, got))
        if not same:
            yield Finding("another-run", "state", got="other steps", want="the rest of the run", case=case)
            continue
        canvas = _edited(boot, start.step.canvas, run.prompt.shape[1])
        other = runs.watched(boot, run.prompt, resume=replace(state, canvas=canvas), **run.options)
        yield from _goes_on(boot, other, canvas, case)


def _not_resumed(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Findings unless asking for it is refused."""
    from ...pair import REFUSALS, SubjectRaised

    evidence.refused = True
    try:
        runs.watched(boot, runs.drawn(boot), resume=object())
    except SubjectRaised as error:
        if not isinstance(error.__cause__, REFUSALS) or "resume" not in str(error.__cause__):
            yield Finding("unclear-error", "state", got=str(error), want="an error that names resume")
        return
    yield Finding("accepted", "state", got="a run", want="an error that names resume: the spec declines it")


def _amid(run: runs.Run) -> runs.Seen:
    """A step amid its block, one that does not run where there is any: there is most to be remembered."""
    amid = [seen for seen in runs.of(run.steps, "denoise") if seen.step.step > 0] or run.steps
    still = [seen for seen in amid if not seen.step.runs]
    return (still or amid)[len(still or amid) // 2]


def _edited(boot: Boot, canvas: Tensor, start: int) -> Tensor:
    """A canvas with one token after the prompt, or the prompt's last where there is none, replaced in every row."""
    import torch

    mask, vocabulary = runs.mask_of(boot), boot.small.sizes["d_vocab"]
    written = (canvas != mask) & (torch.arange(canvas.shape[1]) >= start)
    chosen = written.long().argmax(-1, keepdim=True).where(written.any(-1, keepdim=True), torch.tensor(start - 1))
    one, two = ((canvas.gather(1, chosen) + further) % vocabulary for further in (1, 2))
    return canvas.scatter(1, chosen, two.where(one == (-1 if mask is None else mask), one))


def _goes_on(boot: Boot, run: runs.Run, canvas: Tensor, case: str) -> Iterator[Finding]:
    import torch

    # A guided step asks first what the model says without its prompt.
    seen = runs.of(run.steps, "denoise")[0].forwards
    ids = seen[0]["input_ids"] if seen else canvas[:, :0]
    if not ids.shape[1] or not torch.equal(ids, canvas[:, -ids.shape[1] :]):
        yield Finding("unseen", "state.canvas", got="a step that does not see the edit", want="its forward", case=case)
    fixed = canvas != runs.mask_of(boot)
    if not torch.equal(run.canvas[:, : canvas.shape[1]][fixed], canvas[fixed]):
        yield Finding("edit-lost", "state.canvas", got="other tokens", want="those of the edited canvas", case=case)


@requirement("denoising/trace", level=MUST, needs=("hooks/fires", *runs.NEEDS))
def trace(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """A trace MUST have an entry for every step of a run, and in each that runs every hook that fires, with what a
    forward on the canvas of that step shows.

    This is the data of every study over denoising time; an entry that lacks a hook, or is that of another step, is a
    hole or a ghost in it.
    """
    from ...memory import same
    from ...taps import record_bridge

    if runs.declined(boot, evidence):
        return
    run = runs.usual(boot)
    # What it refuses to trace is another requirement's finding.
    if any(misreported(run)) or any(mislabelled(boot, run)) or any(map(_other_window, run.steps)):
        return
    pair = boot.small.pairs[runs.sampler_of(boot).layout]
    entries = _traced(boot, run)
    if len(entries) != len(run.steps):
        yield Finding("incomplete", "trace", got=f"{len(entries)} entries", want=f"{len(run.steps)} steps")
        return
    wrong: dict[str, Finding] = {}
    for entry, seen in zip(entries, run.steps, strict=True):
        if not entry.facts.runs:
            continue
        # The step's own canvas, whatever its forward was given: hooks and logits are to be of one forward.
        inputs = {**seen.forwards[0], "input_ids": entry.canvas_before[:, entry.window]}
        want = record_bridge(partial(pair.call, inputs), boot.small.bridge, pair.names).taps
        for name in want.keys() | set(entry):
            got = entry.calls(name) if name in entry else []
            alike = len(got) == len(want.get(name, [])) and all(map(same, got, want.get(name, [])))
            if not alike:
                told = "nothing" if not got else "other values"
                wrong.setdefault(
                    name, Finding("missing" if not got else "other-step", name, got=told, want="what it shows")
                )
    yield from (wrong[name] for name in sorted(wrong))


def _other_window(seen: runs.Seen) -> bool:
    """Whether a forward has another length than the window that was told."""
    columns = seen.step.canvas[:, seen.step.window].shape[1]
    return any(given["input_ids"].shape[1] != columns for given in seen.forwards)


def _traced(boot: Boot, run: runs.Run) -> list[Any]:
    import warnings

    from ...denoising import trace_denoising
    from ...pair import blamed_on_subject

    sampler = runs.sampler_of(boot)
    options = {**sampler.options, sampler.length: runs.lengths(boot)[1], "seed": 1}
    with blamed_on_subject(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = trace_denoising(
            boot.small.bridge,
            run.prompt,
            names_filter=boot.small.pairs[sampler.layout].names.__contains__,
            sampler=sampler.sample,
            sampling=options,
        )
        return [traced[key] for key in traced]
