"""Logits: what a step says that the model said, and with keys and values kept. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from . import runs

if TYPE_CHECKING:
    from torch import Tensor

    from ...denoising import Step
    from ...judge import Evidence
    from ...pair import Pair
    from ...subject import Boot

PROBABILITY = 1e-6
"""How far a probability may lie from the equations'.

Measured on the miniature: nothing where the sampler computes them in fp64, 2e-8 if it did in fp32.
"""


@requirement("denoising/logits", level=MUST, needs=("parity/logits", *runs.NEEDS))
def logits(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """The logits of a step MUST be those of a forward on the window of its canvas, at its noise level.

    What is read off them by step is of that canvas; logits that were worked on, cut or left over are of none.
    """
    from ...compare import PATHS, close

    if runs.declined(boot, evidence):
        return
    pair = _pair(boot)
    for case, run in runs.plain(boot):
        for seen in run.steps:
            if seen.outcome.logits is None or f"{seen.step.kind}" not in ("denoise", "uncond"):
                continue
            # A window may be what is left of a longer stream.
            columns = seen.step.canvas[:, seen.step.window].shape[1]
            want = pair.call(window_of(pair, seen.step))[:, -columns:]
            found = list(close("outcome.logits", seen.outcome.logits, want, pair.allowed("logits", PATHS), case=case))
            yield from found
            if found:
                break


def _pair(boot: Boot) -> Pair:
    """The pair in the layout of the sampler."""
    return boot.small.pairs[runs.sampler_of(boot).layout]


def window_of(pair: Pair, step: Step) -> dict[str, Any]:
    """The inputs of a step's forward: what the layout always has, the noise level and the window's tokens."""
    from ...layout import Attend, PerRow

    arguments = pair.layout.arguments.items()
    always = {name: value for name, value in arguments if not isinstance(value, PerRow | Attend)}
    inputs = pair.attending({**always, "input_ids": step.canvas[:, step.window]})
    return {**inputs, **runs.sampler_of(pair.boot).arguments(step)}


@requirement("denoising/log-probs", level=MUST, needs=runs.NEEDS)
def log_probs(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """The aligned logits of a step MUST be its logits, each row at the token that it speaks of, and its
    log-probabilities what the parameterisation of the model makes of them and the step's canvas, before anything
    narrows or sharpens what is drawn from.

    The lens at a step, its entropy and its confidence are the model's; those of a sampler's settings are not.
    """
    from ...compare import close
    from ...denoising import aligned

    if runs.declined(boot, evidence):
        return
    for case, run in runs.plain(boot):
        told = None
        for seen in runs.of(run.steps, "denoise"):
            step, outcome = seen.step, seen.outcome
            wanted = None if outcome.logits is None else aligned(outcome.logits, boot.spec.shift)
            if not _equal(outcome.aligned, wanted):
                yield Finding("not-aligned", "outcome.aligned", got="other rows", want="those of the logits", case=case)
                break
            # A step without a forward draws from what the last one said.
            told = told if outcome.aligned is None else outcome.aligned
            if outcome.log_probs is None:
                yield Finding("none", "outcome.log_probs", got="nothing", want="log-probabilities", case=case)
                break
            if told is None:
                continue
            want = _parameterised(boot, told[:, -outcome.log_probs.shape[1] :], step.canvas[:, : step.window.stop])
            if want is None:
                continue
            found = list(close("outcome.log_probs", outcome.log_probs.double().exp(), want, PROBABILITY, case=case))
            yield from found
            if found:
                break


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether both are there and the same, or neither is there."""
    return one is other if one is None or other is None else one.equal(other)


def _parameterised(boot: Boot, rows: Tensor, canvas: Tensor) -> Tensor | None:
    """Probabilities by the equations of the spec's parameterisation, where it names one."""
    from ...oracles.likelihood import PARAMETERISATIONS

    name, mask = boot.spec.parameterisation, runs.mask_of(boot)
    if name is None or mask is None:
        return None
    return PARAMETERISATIONS[name](rows, canvas[:, -rows.shape[1] :], mask).exp()


@requirement("denoising/kv-cache", level=MUST, needs=("mask/kv-cache", *runs.NEEDS))
def kv_cache(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """With keys and values kept, a text that fits the model MUST have the tokens that it has without, and its steps the
    same logits; and the model MUST be left as it was.

    Keeping them is a matter of speed; a block that was not kept, or kept as a draft, is another context.
    """
    import torch

    from ...compare import PATHS, close, exact

    if runs.declined(boot, evidence):
        return
    cached = runs.sampler_of(boot).cached
    if cached is None:
        if boot.spec.cache is not None:
            yield Finding("undeclared", "cached", got="no options", want="those with which the sampler uses the cache")
        return
    pair, options = _pair(boot), dict[str, Any](cached)
    kept, run = runs.usual(boot, cached), runs.usual(boot)
    if not torch.equal(kept.canvas, run.canvas):
        yield Finding("other-tokens", "tokens", got="other tokens", want="those without a cache")
        return
    drawing = ([seen for seen in each.steps if seen.outcome.log_probs is not None] for each in (kept, run))
    both = zip(*drawing, strict=False)
    for one, other in both:
        got, want = one.outcome.logits, other.outcome.logits
        if got is not None and want is not None:
            rows = min(got.shape[1], want.shape[1])
            found = list(close("outcome.logits", got[:, -rows:], want[:, -rows:], pair.allowed("logits", PATHS)))
            yield from found
            if found:
                break
    # A bridge of its own: a cache that stays open would break every later forward.
    bridge = boot.small.boot_again()
    before = pair.call(bridge=bridge)
    runs.watched(boot, run.prompt, bridge=bridge, **options)
    yield from exact("logits", pair.call(bridge=bridge), before, case="after a run")
