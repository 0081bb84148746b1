"""Steps: what a sampler says that it does, and whether it does that. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement
from . import runs

if TYPE_CHECKING:
    from torch import Tensor

    from ...judge import Evidence
    from ...subject import Boot


@requirement("denoising/forwards", level=MUST, needs=runs.NEEDS)
def forwards(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Every forward of the model MUST happen in one announced step, and every step that says so MUST run one and have
    its logits.

    A cache by step, or an edit for one step, takes the forward that comes for the step that was announced.
    """
    if runs.declined(boot, evidence):
        return
    counted: Counter[str] = Counter()
    for case, run in runs.every(boot):
        yield from misreported(run, case)
        counted.update(f"{seen.step.kind}" for seen in run.steps if seen.step.runs)
    evidence.facts["forwards"] = dict(sorted(counted.items()))


def misreported(run: runs.Run, case: str = "") -> Iterator[Finding]:
    """Forwards that are not those of the steps; the first of each kind."""
    for stray in run.strays[:1]:
        yield Finding("unannounced", "step", got=stray, want="before, its forward, after", case=case)
    for seen in run.steps:
        step, outcome, want = seen.step, seen.outcome, int(seen.step.runs)
        if (len(seen.forwards), outcome.logits is not None) != (want, bool(want)):
            logits = "logits" if outcome.logits is not None else "no logits"
            got = f"{len(seen.forwards)} forwards and {logits} in step {step.index}"
            yield Finding("miscounted", f"step.{step.kind}", got=got, want=f"{want} of both", case=case)
            return


@requirement("denoising/labels", level=MUST, needs=runs.NEEDS)
def labels(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Steps MUST be what they are called: counted from 0 in the run and in their block, a denoising step where there
    are masks, or tokens that the sampler may revise, a commit after the last of these in a block without masks, a
    prefix of tokens alone, which stand before all that is still to be denoised.

    Averages over denoising steps count a commit that is called one twice: it shows the last canvas again.
    """
    if runs.declined(boot, evidence):
        return
    for case, run in runs.every(boot):
        yield from mislabelled(boot, run, case)


def mislabelled(boot: Boot, run: runs.Run, case: str = "") -> Iterator[Finding]:
    """The first step of a run that is not what it is called."""
    sampler, block, drawn, over = runs.sampler_of(boot), runs.block_of(boot), Counter[int](), -1
    given = run.prompt.shape[1]
    for index, seen in enumerate(run.steps):
        step, kind = seen.step, f"{seen.step.kind}"
        start = runs.first_block(boot, given) + step.block * block
        columns = slice(start, start + block)
        masks = bool(step.masked[:, columns].any())
        number = (step.index, step.step)
        if number != (index, drawn[step.block]):
            yield Finding("miscounted", "step.index", got=str(number), want=str((index, drawn[step.block])), case=case)
            return
        # Where blocks begin behind the prompt, a prefix is all that stands before a block, and comes before its steps.
        before = start if sampler.from_prompt and not drawn[step.block] else given
        true = {
            "denoise": (masks or not sampler.absorbing) and step.block > over,
            "commit": not masks and drawn[step.block] > 0 and step.block > over,
            "prefix": step.window.stop <= before and step.block > over,
            "uncond": True,
        }
        if not true[kind]:
            got = f"a step on {'masks' if masks else 'tokens alone'} after {drawn[step.block]} that denoise"
            yield Finding("mislabelled", f"step.{kind}", got=got, want=f"what {kind} means", case=case)
            return
        drawn[step.block] += kind == "denoise"
        if kind == "commit" or (kind == "prefix" and not sampler.from_prompt):
            over = step.block


@requirement("denoising/noise", level=MUST, needs=runs.NEEDS)
def noise(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """The noise level of a denoising step MUST lie in [0, 1], one for each row, not rise within a block, and be the one
    at which its forward runs.

    Directions and probes are fitted by noise level; a level that is another quantity, or that of another step, blurs
    what they find.
    """
    if runs.declined(boot, evidence):
        return
    for case, run in runs.plain(boot):
        yield from _misplaced(run, case)
        yield from _apart(boot, run, case)


def _misplaced(run: runs.Run, case: str) -> Iterator[Finding]:
    """The first level that is none, or rises."""
    last: dict[int, runs.Seen] = {}
    for seen in runs.of(run.steps, "denoise"):
        t, before = seen.step.t, last.get(seen.step.block)
        if t is None or t.shape != run.prompt.shape[:1] or not bool(((t >= 0) & (t <= 1)).all()):
            got = "none" if t is None else f"{t.tolist()}"
            yield Finding("no-level", "step.t", got=got, want="a number in [0, 1] for each row", case=case)
            return
        if before is not None and before.step.t is not None and bool((t > before.step.t).any()):
            got, want = f"{t.tolist()} at step {seen.step.index}", f"at most {before.step.t.tolist()}"
            yield Finding("rises", "step.t", got=got, want=want, case=case)
            return
        last[seen.step.block] = seen


def _apart(boot: Boot, run: runs.Run, case: str) -> Iterator[Finding]:
    """The first forward at another level than its step's."""
    import torch

    from ...layout import PerRow

    sampler = runs.sampler_of(boot)
    layout = boot.small.pairs[sampler.layout].layout
    levels = [name for name, value in layout.arguments.items() if isinstance(value, PerRow)]
    for seen in runs.of(run.steps, "denoise"):
        if seen.step.t is None:
            continue
        wanted = sampler.arguments(seen.step)
        for name, want in ((name, wanted[name]) for name in levels):
            for given in seen.forwards:
                got = given.get(name)
                if not isinstance(got, torch.Tensor) or not torch.allclose(got.double(), want.double(), atol=1e-6):
                    told = got.tolist() if isinstance(got, torch.Tensor) else str(got)
                    yield Finding("another-level", f"step.t.{name}", got=f"{told}", want=f"{want.tolist()}", case=case)
                    return


@requirement("denoising/masks", level=MUST, needs=runs.NEEDS)
def masks(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """The steps of a run MUST go on from each other's canvas, say truly where it holds masks and which of them became
    tokens, and leave none in the end; where the sampler is absorbing, what is a token MUST stay as it is.

    Steering and probing by masked and revealed positions reads these sets, and nothing else says which they are.
    """
    if runs.declined(boot, evidence):
        return
    for case, run in runs.every(boot):
        yield from _untrue(boot, run, case)
        text = run.canvas[:, : run.tokens.shape[1]]
        left = [token for token in text.flatten().tolist() if token == runs.mask_of(boot)]
        if left:
            yield Finding("mask-left", "outcome.canvas", got=f"{len(left)} masks at the end", want="none", case=case)


def _untrue(boot: Boot, run: runs.Run, case: str) -> Iterator[Finding]:
    """What the first step that says what is not so says."""
    import torch

    last: Tensor | None
    mask, absorbing, last = runs.mask_of(boot), runs.sampler_of(boot).absorbing, None
    for seen in run.steps:
        step, outcome = seen.step, seen.outcome
        before, after = step.canvas, outcome.canvas
        last = before if last is None else last
        width = last.shape[1]
        hidden = torch.eq(before, -1 if mask is None else mask)
        said = {
            ("step.canvas", "the last canvas, and masks"): torch.equal(before[:, :width], last)
            and bool(hidden[:, width:].all()),
            ("step.masked", "where it holds masks"): torch.equal(step.masked, hidden),
        }
        if after.shape != before.shape:
            said["outcome.canvas", f"{list(before.shape)}"] = False
        else:
            became = hidden & torch.ne(after, -1 if mask is None else mask)
            said["outcome.committed", "masks that became tokens"] = torch.equal(outcome.committed, became)
            stays = torch.equal(after[~hidden], before[~hidden])
            said["outcome.canvas", "tokens that stay"] = stays or not absorbing
        for (place, want), true in said.items():
            if not true:
                yield Finding("untrue", place, got=f"otherwise in step {step.index}", want=want, case=case)
                return
        last = after


@requirement("denoising/own-storage", level=MUST, needs=runs.NEEDS)
def own_storage(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """What a step tells MUST stay as it was told, whatever the run does afterwards.

    Who keeps canvases by step without copying them finds the last one everywhere, and plots a run without steps.
    """
    from dataclasses import fields

    if runs.declined(boot, evidence):
        return
    for case, run in runs.every(boot):
        changed = {
            f"{type(told).__name__.lower()}.{each.name}"
            for seen in run.steps
            for told, copy in seen.both
            for each in fields(told)
            if not _unchanged(getattr(told, each.name), getattr(copy, each.name))
        }
        for place in sorted(changed):
            yield Finding("written-to", place, got="other values after the run", want="those that were told", case=case)


def _unchanged(told: object, copy: object) -> bool:
    """Whether what was told is what it was; but for tensors, nobody can write to it."""
    import torch

    from ...memory import same

    return not isinstance(told, torch.Tensor) or not isinstance(copy, torch.Tensor) or same(told, copy)
