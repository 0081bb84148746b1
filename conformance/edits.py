"""Edits made alike on a bridge and in the model's equations: many hooks at once, searched apart where they disagree.

Every trial has a row of a batch to itself, so that eight of them share one forward of the bridge and one of the
oracle in either precision. A row holds edits at any number of hooks: as long as all goes right, the cost does not
grow with their number.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import compare, taps

if TYPE_CHECKING:
    from .pair import Pair

ROWS = 8
"""Trials that share a forward."""

Edit = Callable[[Tensor, slice], Tensor]
"""What becomes of one firing at a hook in one row: its tensor `pos ...`, and which positions of the stream it holds."""

Trial = Mapping[str, Sequence[Edit]]
"""Edits of one row by hook name, canonical or an alias taken at its word; several at one place follow each other."""

Kind = Callable[["Pair", str], Edit]
"""A kind of edit, made for a hook."""


@dataclass(frozen=True, slots=True)
class Group:
    """Hooks that are edited together in one row, in one kind of way; `case` says which, for a finding."""

    names: Sequence[str]
    kind: Kind
    case: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two groups the same trial."""
        return self.kind, *self.names


@dataclass(frozen=True, slots=True)
class Effect:
    """Logits of one row under a trial, how far they went, and where the model says that they go.

    `want` is None where the model has no tap of that name and shape.
    """

    name: str
    case: str
    got: Tensor
    moved: float
    want: Tensor | None
    allowed: float

    @property
    def right(self) -> bool:
        """Whether the model agrees; without one nothing is said."""
        return self.want is not None and compare.within(compare.distance(self.got, self.want), self.allowed)


def pushed(pair: Pair, name: str, share: float = 1.0) -> Edit:
    """Add a seeded tensor, half as large as what the hook shows, or a share of it."""
    whole = _row(pair, name)
    spread = 0.5 * whole[compare.counted(whole)].std(correction=0).nan_to_num(0.0) + 0.1
    push = torch.randn(whole.shape, generator=seeded(name)) * spread * share
    return lambda value, part: value + _part(push, part).to(value.dtype)


def zeroed(pair: Pair, name: str) -> Edit:
    """Zero half of the channels."""
    chosen = _half(pair, name)
    return lambda value, part: value.masked_fill(chosen, 0)


def averaged(pair: Pair, name: str) -> Edit:
    """Replace half of the channels by their mean over rows and positions."""
    whole = pair.observed.joined(pair.canonical(name))
    chosen, mean = _half(pair, name), whole.flatten(0, -2).mean(dim=0)
    return lambda value, part: torch.where(chosen, mean.to(value.dtype), value)


def patched(pair: Pair, name: str) -> Edit:
    """Replace half of the channels by those of another row, which has other tokens."""
    chosen, other = _half(pair, name), pair.observed.joined(pair.canonical(name))[-1]
    return lambda value, part: torch.where(chosen, _part(other, part).to(value.dtype), value)


def swapped(pair: Pair, name: str) -> Edit:
    """Exchange the first and the last position of what fires; a tensor of one row of numbers is turned by one."""

    def swap(value: Tensor, part: slice) -> Tensor:
        if value.ndim == 1:
            return value.roll(1)
        edited = value.clone()
        edited[0], edited[-1] = value[-1], value[0]
        return edited

    return swap


def effects(pair: Pair, groups: Sequence[Group]) -> Iterator[Effect]:
    """Edit every hook of every group, and yield one effect per group, or one per hook where a group goes wrong.

    A group that goes wrong is split in eight until single hooks are left; those that go right are yielded as they
    are, so that every hook is in exactly one effect. A single hook that goes wrong in company is tried alone: an edit
    that reaches other rows of the forward is not theirs to answer for.
    """
    todo = [part for group in groups for part in _apart(pair, group)]
    while todo:
        split: list[Group] = []
        for group, effect in zip(todo, together(pair, todo), strict=True):
            if effect.right:
                yield replace(effect, case=group.case)
            elif len(group.names) == 1:
                yield replace(_alone(pair, group), case=group.case)
            else:
                size = -(-len(group.names) // ROWS)
                starts = range(0, len(group.names), size)
                split += [replace(group, names=group.names[start : start + size]) for start in starts]
        todo = split


def on_bridge(pair: Pair, trial: Trial) -> Tensor:
    """Logits of the bridge alone, for one row under a trial."""
    return _on_bridge(pair, [trial], pair.batched(1))[0]


def _apart(pair: Pair, group: Group) -> Iterator[Group]:
    """A group without those hooks that need a forward each, then these."""
    together = [name for name in group.names if not shared(pair, name)]
    if together:
        yield replace(group, names=together)
    for name in group.names:
        if shared(pair, name):
            yield replace(group, names=[name])


def together(pair: Pair, groups: Sequence[Group]) -> list[Effect]:
    """The effects of groups, those that were tried before from memory."""
    known: dict[tuple[Any, ...], Effect] = pair.shelf
    new = [group for group in groups if group.key not in known]
    known |= zip((group.key for group in new), trials(pair, map(partial(_trial, pair), new)), strict=True)
    return [known[group.key] for group in groups]


def _alone(pair: Pair, group: Group) -> Effect:
    """The effect of a group in a forward of its own, once tried from memory; without a model there is none to gain."""
    key = ("alone", *group.key)
    if key not in pair.shelf:
        pair.shelf[key] = next(iter(trials(pair, [_trial(pair, group)])))
    found: Effect = pair.shelf[key]
    return found


def _trial(pair: Pair, group: Group) -> Trial:
    return {name: [group.kind(pair, name)] for name in group.names}


def trials(pair: Pair, wanted: Iterable[Trial]) -> Iterator[Effect]:
    """The effects of several trials, eight to a forward."""
    for batch in _batches(pair, wanted):
        inputs = pair.batched(len(batch))
        got = _on_bridge(pair, batch, inputs)
        known = [{name: edits for name, edits in trial.items() if judged(pair, name)} for trial in batch]
        exact, rounded = (_on_model(pair, known, inputs, dtype) for dtype in (torch.float64, torch.float32))
        for row, trial in enumerate(batch):
            yield Effect(
                name=next(iter(trial)) if len(trial) == 1 else f"{len(trial)} hooks at once",
                case="",
                got=got[row],
                moved=compare.distance(got[row], pair.plain[0]),
                want=exact[row] if known[row].keys() == trial.keys() else None,
                allowed=compare.WITNESS.of(exact[row], noise=compare.distance(rounded[row], exact[row])),
            )


def _batches(pair: Pair, wanted: Iterable[Trial]) -> Iterator[list[Trial]]:
    """Trials that can share a forward; a tensor that all rows share cannot be edited for one of them."""
    batch: list[Trial] = []
    for trial in wanted:
        alone = any(shared(pair, name) for name in trial)
        if batch and (alone or len(batch) == ROWS):
            yield batch
            batch = []
        batch.append(trial)
        if alone:
            yield batch
            batch = []
    if batch:
        yield batch


def shared(pair: Pair, name: str) -> bool:
    """Whether a hook shows one tensor for all rows of a batch."""
    return pair.observed.taps[pair.canonical(name)][0].shape[:1] != (len(pair.plain),)


def judged(pair: Pair, name: str) -> bool:
    """Whether the model has this very tensor; a hook that fires on another part of the stream has another."""
    known = pair.exact if pair.boot.oracle is not None else pair.reference
    canonical = pair.canonical(name)
    return name in known.taps and known.joined(name).shape == pair.observed.joined(canonical).shape


def _on_bridge(pair: Pair, batch: Sequence[Trial], inputs: Mapping[str, Any]) -> Tensor:
    """Logits of the bridge under a batch of trials, with as many hooks at a place as it has edits."""
    at: dict[str, list[tuple[int | None, Sequence[Edit]]]] = {}
    for row, trial in enumerate(batch):
        for name, edits in trial.items():
            at.setdefault(pair.canonical(name), []).append((None if shared(pair, name) else row, edits))

    def hook_number(number: int) -> taps.Edit:
        firings = _Firings(pair)

        def hook(tensor: Tensor, hook: Any) -> Tensor:
            mine = [(row, edits[number : number + 1]) for row, edits in at[hook.name]]
            return _edited(tensor, mine, firings.next_part(hook.name))

        return hook

    most = max(len(edits) for trial in batch for edits in trial.values())
    return pair.edited(at, [hook_number(number) for number in range(most)], inputs)


def _on_model(pair: Pair, batch: Sequence[Trial], inputs: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """Logits of the equations under a batch of trials; without an oracle of the reference, in fp32."""
    boot, firings = pair.boot, _Firings(pair)

    def tap(name: str, tensor: Any) -> Any:
        mine = [(None if shared(pair, name) else row, t[name]) for row, t in enumerate(batch) if name in t]
        if not mine:
            return tensor
        parts = firings.parts(name)
        if len(parts) == 1 or tensor.shape[1] != parts[-1].stop:
            return _edited(tensor, mine, firings.next_part(name))
        # The equations have in one tensor what fires part by part.
        return torch.cat([_edited(tensor[:, part], mine, part) for part in parts], dim=1)

    with torch.no_grad():
        if boot.oracle is None:
            model, spec = boot.reference, boot.spec
            boot.forwards["reference"] += 1
            return taps.through_modules(lambda: taps.logits_of(model(**inputs)), model, spec.points, boot.layers, tap)
        boot.forwards["oracle"] += 1
        return boot.oracle(boot.params_in(dtype), boot.config, inputs, tap)


def _edited(tensor: Tensor, rows: Iterable[tuple[int | None, Sequence[Edit]]], part: slice) -> Tensor:
    """A firing with its rows edited; row None is the whole of a tensor that all rows share."""
    edited = tensor.clone()
    for row, edits in rows:
        for edit in edits:
            if row is None:
                edited = edit(edited, part)
            else:
                edited[row] = edit(edited[row], part)
    return edited


@dataclass(slots=True)
class _Firings:
    """Which part of the stream a hook shows at its next firing."""

    pair: Pair
    fired: dict[str, int] = field(default_factory=dict)

    def parts(self, name: str) -> list[slice]:
        """Positions of the stream in one firing after another; all of them where a hook fires once."""
        calls = self.pair.observed.taps[self.pair.canonical(name)]
        if len(calls) == 1:
            return [slice(None)]
        ends = [sum(call.shape[1] for call in calls[: number + 1]) for number in range(len(calls))]
        return [slice(end - call.shape[1], end) for end, call in zip(ends, calls, strict=True)]

    def next_part(self, name: str) -> slice:
        """The part of this firing; a hook that fires more often than it was seen to stays at its last."""
        number = self.fired.get(name, 0)
        self.fired[name] = number + 1
        parts = self.parts(name)
        return parts[min(number, len(parts) - 1)]


def _row(pair: Pair, name: str) -> Tensor:
    """The first row of what a hook showed, or what all rows share."""
    whole = pair.observed.joined(pair.canonical(name))
    return whole if shared(pair, name) else whole[0]


def _part(whole: Tensor, part: slice) -> Tensor:
    return whole[part] if whole.ndim else whole


def _half(pair: Pair, name: str) -> Tensor:
    """A seeded half of the channels, the last axis."""
    width = pair.observed.joined(pair.canonical(name)).shape[-1]
    return torch.rand(width, generator=seeded(name)) < 0.5


def seeded(name: str) -> torch.Generator:
    """Random numbers that belong to a name, whatever else is drawn."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))
