"""Runs of a sampler that are watched: every step as it was told, and every forward in between. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ...denoising import Observer, Outcome, Step
    from ...facts import Sampler
    from ...judge import Evidence
    from ...subject import Boot

NEEDS = ("loading/runs", "denoising/sampler")
"""What every run rests on."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One step: copies of what was told when it was told, the very things that were told, and its forwards."""

    step: Step
    outcome: Outcome
    told: tuple[Any, Any]
    forwards: list[Mapping[str, Any]]

    @property
    def both(self) -> list[tuple[Any, Any]]:
        """What was told, beside its copy."""
        return list(zip(self.told, (self.step, self.outcome), strict=True))


@dataclass(slots=True)
class Recorder:
    """An observer that keeps all it is told. `strays` are forwards outside of a step, and steps inside of another."""

    also: Observer | None = None
    steps: list[Seen] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    _open: tuple[Step, Step] | None = None
    _forwards: list[Mapping[str, Any]] = field(default_factory=list)

    def before(self, step: Step) -> None:
        """Keep it until its outcome is known."""
        if self._open is not None:
            self.strays.append(f"step {step.index} begins before step {self._open[0].index} has ended")
        self._open = (step, copied(step))
        if self.also is not None:
            self.also.before(step)

    def after(self, step: Step, outcome: Outcome) -> None:
        """Keep both."""
        if self.also is not None:
            self.also.after(step, outcome)
        if self._open is None or self._open[0].index != step.index:
            self.strays.append(f"step {step.index} ends and has not begun")
        else:
            self.steps.append(Seen(self._open[1], copied(outcome), (self._open[0], outcome), self._forwards))
        self._open, self._forwards = None, []

    def forward(self, _: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A forward of the model is about to run; a sampler may write to what it gives it."""
        if self._open is None:
            self.strays.append(f"a forward after {len(self.steps)} steps")
        else:
            self._forwards.append(deepcopy({**kwargs, **({"input_ids": args[0]} if args else {})}))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run from a prompt to its text."""

    prompt: Tensor
    options: Mapping[str, Any]
    tokens: Any
    steps: list[Seen]
    strays: list[str]

    @property
    def canvas(self) -> Tensor:
        """All tokens at the end; where there was nothing to write, there need be no step."""
        canvas: Tensor = self.steps[-1].outcome.canvas if self.steps else self.tokens
        return canvas


def copied(told: Any) -> Any:
    """The same with a copy of every tensor."""
    import torch

    values = {each.name: getattr(told, each.name) for each in fields(told)}
    return replace(told, **{n: v.detach().clone() for n, v in values.items() if isinstance(v, torch.Tensor)})


def declined(boot: Boot, evidence: Evidence) -> bool:
    """Whether there is no sampler to judge; `denoising/sampler` says whether that is told to users."""
    evidence.refused = boot.spec.sampler is None
    return evidence.refused


def sampler_of(boot: Boot) -> Sampler:
    """The sampler of an adapter that has one."""
    assert boot.spec.sampler is not None
    return boot.spec.sampler


def block_of(boot: Boot) -> int:
    """Tokens per block; models without blocks denoise all at once."""
    return _own_block(boot) or boot.small.sizes["n"]


def _own_block(boot: Boot) -> int | None:
    sampler, sizes = boot.spec.sampler, boot.small.sizes
    block = sizes.get("block")
    return block if block is not None or sampler is None else sampler.block


def first_block(boot: Boot, prompt: int) -> int:
    """The column at which blocks begin, for a prompt of so many tokens."""
    sampler = boot.spec.sampler
    return prompt if sampler is not None and sampler.from_prompt else 0


def lengths(boot: Boot) -> tuple[int, int]:
    """Tokens of the usual prompt and of its text: both end inside a block, where blocks have more than one token and
    do not begin behind the prompt.
    """
    block, n = _own_block(boot) or 4, boot.small.sizes["n"]
    given = min(block + 1, n // 2)
    if first_block(boot, given):
        return given, given + min(3, (n - given) // block) * block
    return given, min(max(4 * block - 1, given + 3), n)


def drawn(boot: Boot, rows: int = 2, seed: int = 0, length: int | None = None) -> Tensor:
    """A prompt of tokens, none of them a mask, `rows length`, or fewer rows where the sampler does not take as many."""
    import torch

    mask, vocabulary = mask_of(boot), boot.small.sizes["d_vocab"]
    given = lengths(boot)[0] if length is None else length
    generator = torch.Generator().manual_seed(seed)
    if mask is None or mask == vocabulary - 1:
        return most(boot, torch.randint(mask or vocabulary, (rows, given), generator=generator))
    ids = torch.randint(vocabulary - 1, (rows, given), generator=generator)
    return most(boot, ids + (ids >= mask).long())


def most(boot: Boot, rows: Tensor) -> Tensor:
    """As many of these rows as the sampler takes at once."""
    return rows if boot.spec.sampler is None else rows[: boot.spec.sampler.most_rows]


def mask_of(boot: Boot) -> int | None:
    """The mask's id."""
    mask = boot.spec.mask_token
    return None if mask is None else mask.of(boot.small.sizes)


def sample(boot: Boot, prompt: Tensor, *, bridge: Any = None, length: int | None = None, **told: Any) -> Any:
    """What the sampler returns; SubjectRaised where it raises."""
    from ...pair import blamed_on_subject

    sampler = sampler_of(boot)
    asked = {sampler.length: lengths(boot)[1] if length is None else length}
    bridge = boot.small.bridge if bridge is None else bridge
    with blamed_on_subject():
        return sampler.sample(bridge, prompt.clone(), **{**sampler.options, **asked, **told})


def watched(boot: Boot, prompt: Tensor, *, bridge: Any = None, also: Observer | None = None, **told: Any) -> Run:
    """A run with a recorder; `seed`, `resume`, `length` and other options as the sampler takes them.

    SubjectRaised where it raises, or writes and tells nothing.
    """
    import torch

    from ...pair import SubjectRaised

    bridge = boot.small.bridge if bridge is None else bridge
    recorder, length = Recorder(also), told.pop("length", None)
    counting = bridge.original_model.register_forward_pre_hook(recorder.forward, with_kwargs=True)
    try:
        tokens = sample(boot, prompt, bridge=bridge, length=length, **{"seed": 1, **told, "observer": recorder})
    finally:
        counting.remove()
    silent = isinstance(tokens, torch.Tensor) and torch.equal(tokens, prompt) and not recorder.strays
    if not recorder.steps and not silent:
        raise SubjectRaised(f"the sampler told of no step, and ran {len(recorder.strays)} forwards")
    boot.forwards["subject"] += sum(len(seen.forwards) for seen in recorder.steps)
    return Run(prompt, told, tokens, recorder.steps, recorder.strays)


def usual(boot: Boot, options: Mapping[str, Any] | None = None) -> Run:
    """The run of the usual prompt with further options, shared by all that only read it."""
    shelf = boot.small.pairs[sampler_of(boot).layout].shelf
    key = ("denoising", repr(options or {}))
    if key not in shelf:
        shelf[key] = watched(boot, drawn(boot), **(options or {}))
    found: Run = shelf[key]
    return found


def plain(boot: Boot) -> Iterator[tuple[str, Run]]:
    """The usual run and those with further options, each with its circumstance."""
    for options in ({}, *sampler_of(boot).further):
        yield _case(options), usual(boot, options)


def every(boot: Boot) -> Iterator[tuple[str, Run]]:
    """These, and the one with keys and values kept."""
    yield from plain(boot)
    cached = sampler_of(boot).cached
    if cached is not None:
        yield _case(cached), usual(boot, cached)


def _case(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def of(seen: Sequence[Seen], *kinds: str) -> list[Seen]:
    """The steps of some kinds."""
    return [one for one in seen if one.step.kind in kinds]
