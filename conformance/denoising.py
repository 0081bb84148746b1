"""Denoising: what a sampler does, step by step, told to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, device

if TYPE_CHECKING:
    from .selection import Kinds, Names, Positions, Steps
    from .trace import Trace


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
        state: what the sampler takes as `resume`, to go on from here; `dataclasses.replace(state, canvas=...)` edits
            it. It stays as it is while the run goes on, so that whoever watches can keep it.
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


def aligned(logits: Tensor, shift: int) -> Tensor:
    """Logits `batch pos d_vocab` in which row i speaks of the token at i, of a model whose row i speaks of i + `shift`.

    Of the first tokens nothing is said; they have the first row, as Dream's sampler has it (arXiv 2508.15487).
    """
    return torch.cat((logits[:, :1].expand(-1, shift, -1), logits[:, : logits.shape[1] - shift]), dim=1)


class Observer(Protocol):
    """Whoever watches a sampler; it may look at everything and change nothing.

    It may end the run by an exception of its own, which a sampler lets through, leaving the bridge as it found it.
    """

    def before(self, step: Step) -> None:
        """A step is about to happen; if `step.runs`, the next forward of the bridge belongs to it."""

    def after(self, step: Step, outcome: Outcome) -> None:
        """It has happened."""


def trace_denoising(
    bridge: Any,
    prompt: Any = None,
    *,
    names_filter: Names = (),
    steps: Steps = None,
    positions: Positions = None,
    kinds: Kinds = None,
    logits: bool = False,
    edits: Sequence[tuple[Any, ...]] = (),
    stop: Callable[[Step], bool] | tuple[Any, ...] | None = None,
    sampler: Callable[..., Tensor] | None = None,
    resume: Any = None,
    to: str | device | Path | None = None,
    sampling: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trace:
    """Run a sampler and keep what the model was at its steps, or change it there.

    Without `edits` every token and every logit is that of a run without a trace, bit for bit; no hook is left behind.

    Args:
        bridge: a booted bridge; its sampler is `bridge.denoise`, or that of the known spec for its architecture, unless
            there is another.
        prompt: what the sampler begins with, ids `batch length` or whatever else it takes.
        names_filter: hooks whose tensors to keep, as in `run_with_cache`: a name, names, a function of the name, or
            None for all. By default none is kept.
        steps: entries to keep, by the number of the denoising step in its block: one, several, a slice, or a function
            of the `Step`. A prefix or commit forward has the number of denoising steps before it.
        positions: columns of the canvas, of which alone taps and logits are kept: one, several, a slice, a mask, or a
            function of the `Step` that gives one of these. Those that a forward does not see are absent from its
            entry. Hooks without a position axis are kept whole; which they are: `selection.position_axis`.
        kinds: entries to keep, by what the forward is for: "denoise", "prefix", "commit", "uncond". All if not given.
        logits: whether entries have logits and log-probabilities, which are large.
        edits: `(name, function)`, or `(name, function, kinds)`; `function(tensor, hook, step)` returns a tensor, or
            None to change nothing, and is called whenever the hook fires. Without kinds that is in every forward of
            the run: keys and values that a prefix or commit forward leaves in a cache, and both sides of a guided step,
            are then edited as often as in a run that recomputes everything, once. `steps` and `kinds` do not narrow it.
        stop: a function of the `Step`, or (block, step) or (block, step, kind): the run ends before the first such
            step, and goes on from `trace.stopped.state`.
        sampler: called as `sampler(bridge, prompt, observer=..., resume=..., **options)`.
        resume: `state` of an entry or of `trace.stopped`, to go on with that step.
        to: a device to move everything to, or a Path of an empty folder: there every entry is written when its step
            is over, and read again when someone asks (`Trace.open` in other processes). The files are the caller's.
        sampling: options of the sampler, among them such as are called like an argument here: `{"steps": 64}`.
        options: the sampler's own.

    Raises:
        ValueError: a filter names what does not exist.
        TypeError: an argument is of no kind that it can be, or the bridge has no sampler.
        Misreported: forwards and steps are not those that the sampler announces.

    Warns of what was asked for and never happened in the run.
    """
    from .selection import hooks_of, kinds_of, steps_of, stops_at
    from .trace import home_of
    from .tracing import Edit, Stopped, Wanted, Watcher

    run = sampler_of(bridge, sampler)
    wanted = Wanted(
        hooks=hooks_of(bridge, names_filter, "names_filter"),
        steps=steps_of(steps),
        positions=positions,
        kinds=kinds_of(kinds, "kinds"),
        logits=logits,
        aliases={alias: point.name for alias, point in bridge.hook_dict.items() if alias != point.name},
    )
    changes = [Edit.of(bridge, given, number) for number, given in enumerate(edits)]
    watcher = Watcher(bridge, wanted, changes, stops_at(stop), home_of(to))
    result = None
    with watcher.attached():
        try:
            result = run(prompt, observer=watcher, resume=resume, **{**options, **(sampling or {})})
        except Stopped:
            pass
        except Exception as error:
            # The sampler may have wrapped in an error of its own what its forward ran into.
            if watcher.fault in (None, error):
                raise
            raise watcher.fault from error
    if isinstance(stop, tuple) and watcher.trace.stopped is None:
        watcher.complaints.append(f"stop is {stop}, which was never reached")
    return watcher.finish(result)


def sampler_of(bridge: Any, sampler: Callable[..., Tensor] | None) -> Callable[..., Tensor]:
    """A sampler with its bridge: the one given, else the bridge's own, else that of the spec for its architecture."""
    if sampler is not None:
        return partial(sampler, bridge)
    own: Callable[..., Tensor] | None = getattr(bridge, "denoise", None)
    architecture = getattr(getattr(bridge, "cfg", None), "architecture", None)
    if own is None and (known := _known(architecture)) is not None:
        return partial(known, bridge)
    if own is None:
        raise TypeError(
            f"{type(bridge).__name__} has no method denoise: give trace_denoising a sampler, "
            "a function called as sampler(bridge, prompt, observer=..., resume=..., **options)"
        )
    return own


def _known(architecture: str | None) -> Callable[..., Tensor] | None:
    """The sampler of a known spec for an architecture."""
    from .adapters import names, resolve

    specs = resolve(names())
    return next((s.sampler.sample for s in specs if s.architecture == architecture and s.plain and s.sampler), None)
