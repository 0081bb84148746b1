"""Influence: who moves when one position of the stream changes, and whom the gradient of one position reaches."""

from __future__ import annotations

import random
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .pair import SubjectRaised, blamed_on_subject
from .sizes import Size

if TYPE_CHECKING:
    from .pair import Pair

SIGNIFICANT = 4.0
"""A position has moved when it moves by more than this many budgets.

Measured, on the miniature and on 256 and 512 tokens in six layers: who may not attend moves by at most 0.2 budgets,
who may by at least 1800 on the miniature and 80 in the long streams, where attention spreads over more positions.
"""

REACHED = 1e-9
"""A gradient reaches a position that gets more than this share of what the one that gets most gets.

Measured there, and on 2048 tokens in twelve layers: exactly 0 where it may not, at least 1e-4 where it may.
"""

OWN = 3e-3
"""The same of a position's own share through attention alone, where by rounding its query has a part too.

Measured there: at most 3e-5 where a position may not attend to itself, at least 0.24 where it may.
"""

MOST_POSITIONS = 64
"""Positions of a long stream that are tried."""

TRIED_TOKENS = 2**16
"""Tokens in all rows in which they are tried; of a very long stream a quarter of them is tried whatever it costs."""

MOST_TOKENS = 8192
"""Tokens in one forward of rows; in one that is differentiated as a whole, times the layers."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Who influences whom at one place, bool `query key`, and the positions that rows and columns stand for.

    `own` says that the diagonal is attention's own; else the residual connection makes every position reach itself.
    """

    at: str
    got: Tensor
    queries: list[int]
    keys: list[int]
    own: bool = False

    def wanted(self, relation: Tensor) -> Tensor:
        """The part of a relation that is to be seen here."""
        whole = relation if self.own else relation | torch.eye(len(relation), dtype=torch.bool)
        return whole[self.queries][:, self.keys]


LEFT = "ln_final.hook_in"
"""Where the stream has left the last layer."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of the way through the model, by the hooks on the stream where it starts and ends.

    `behind` shows the stream once more, where whatever follows takes it, for models whose layers do not show it.
    `added` shows what attention adds to the stream in between, where the spec names a hook for that, in one piece.
    """

    at: str
    before: str
    after: str
    behind: str
    added: str | None = None

    def ends(self, name: str, seen: Container[str]) -> bool:
        """Whether this is the first hook that shows where the leg ends; `seen` are legs that have ended."""
        return name in (self.after, self.behind) and self.at not in seen


def layers(pair: Pair) -> list[Leg]:
    """Every layer by itself."""
    spec = pair.boot.spec
    before, after = spec.streams
    added = next((branch.raw for branch in spec.branches if branch.before == before), None)
    if spec.slots:
        # A query that does not see itself still moves what it gets, by how much it turns to a slot.
        added = None

    def hook(pattern: str, layer: int) -> str:
        return pair.canonical(pattern.replace("{layer}", str(layer)))

    behind = [*(hook(before, layer) for layer in range(1, pair.boot.layers)), LEFT]
    return [
        Leg(f"blocks.{layer}", hook(before, layer), hook(after, layer), behind[layer], added and hook(added, layer))
        for layer in range(pair.boot.layers)
    ]


def moved_in_layers(pair: Pair, keys: list[int], judge: Pair | None = None) -> list[Seen]:
    """Layer by layer, who moves when a position changes; `judge` is the pair whose budgets hold, by default its own."""
    legs, judge = layers(pair), judge or pair
    parts = [_Perturbation(legs, chosen, even=True) for chosen in _rows(pair, keys, spare=1)]
    for part in parts:
        pair.edited(_names(legs), part.hook, pair.batched(len(part.chosen) + 1))
    return [_seen(pair, leg, keys, parts, judge) for leg in legs]


def moved_overall(pair: Pair, keys: list[int]) -> list[Seen]:
    """Over all layers, and in the logits, who moves when a position changes."""
    leg, every = _whole(pair), list(range(pair.length))
    parts = [_Perturbation([leg], chosen) for chosen in _rows(pair, keys, spare=1)]
    logits = [_moved(pair.edited(_names([leg]), p.hook, pair.batched(len(p.chosen) + 1))) for p in parts]
    got = (torch.cat(logits) > SIGNIFICANT * pair.allowed("logits")).T
    return [_seen(pair, leg, keys, parts, pair), Seen("logits", got, every[pair.returned], keys)]


def reached_in_layers(pair: Pair, queries: list[int]) -> list[Seen]:
    """Layer by layer, whom the gradient of a position reaches: one backward, cut where a layer starts."""
    legs = layers(pair)
    parts = [_Differentiation(legs, chosen, even=True) for chosen in _rows(pair, queries)]
    for part in parts:
        _differentiated(pair, legs, part)
    return [_reached(pair, leg, queries, parts) for leg in legs]


def reached_overall(pair: Pair, queries: list[int]) -> list[Seen]:
    """Over all layers, and from the logits, whom the gradient of a position reaches."""
    leg, every = _whole(pair), list(range(pair.length))
    window = every[pair.returned]
    parts = [_Differentiation([leg], chosen) for chosen in _rows(pair, queries, times=pair.boot.layers)]
    shares = []
    for part in parts:
        logits = _differentiated(pair, [leg], part)
        told = [row for row, query in enumerate(part.chosen.tolist()) if query in window]
        place = torch.tensor([window.index(int(part.chosen[row])) for row in told], dtype=torch.long)
        shares.append(_shares(logits, part.starts[leg.at], torch.tensor(told, dtype=torch.long), place)[told])
        part.starts.clear()
    from_logits = Seen("logits", torch.cat(shares) > REACHED, [q for q in queries if q in window], every)
    return [_reached(pair, leg, queries, parts), from_logits]


def positions(pair: Pair, share: int = 1) -> list[int]:
    """Positions to try: all of a short stream; else its ends, both sides of every border among spans and of seeded
    borders among blocks, and seeded others, each kind spread over the stream; of so many one in `share`.
    """
    length, allowed = pair.length, pair.relation
    if length <= MOST_POSITIONS:
        return list(range(length))
    most = min(MOST_POSITIONS, max(MOST_POSITIONS // 4, TRIED_TOKENS // length)) // share
    draw = random.Random(0)
    ends = torch.tensor([Size(span.length).of(pair.boot.sizes) for span in pair.layout.stream]).cumsum(0).tolist()
    # Where a block ends, the next position attends to others, or others to it.
    changes = (allowed[1:] != allowed[:-1]).any(dim=1) | (allowed[:, 1:] != allowed[:, :-1]).any(dim=0)
    borders = [*ends[:-1], *spread((changes.nonzero().flatten() + 1).tolist(), most // 4, draw)]
    chosen = {0, length - 1, *borders, *(border - 1 for border in borders)}
    others = [position for position in range(length) if position not in chosen]
    return sorted(chosen | set(spread(others, most - len(chosen), draw)))


def spread(items: Sequence[int], count: int, draw: random.Random) -> list[int]:
    """One of each of `count` equal runs of the items, or all of few."""
    count = min(count, len(items))
    ends = [number * len(items) // count for number in range(count + 1)] if count > 0 else []
    return [items[draw.randrange(start, end)] for start, end in pairwise(ends)]


@dataclass(slots=True)
class _Perturbation:
    """Rows in which one position each changes where a leg starts; the last row is left alone.

    Several legs share one forward when each starts anew, `even`: with one vector at every position. Attention then
    spreads over all that a position may see, and whoever does not attend to itself adds what it added before.
    """

    legs: Sequence[Leg]
    chosen: Tensor
    even: bool = False
    moved: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    shape: torch.Size = field(default_factory=torch.Size)

    def hook(self, tensor: Tensor, hook: Any) -> Tensor | None:
        """At every hook of every leg."""
        rows, edited = torch.arange(len(self.chosen)), None
        for number, leg in enumerate(self.legs):
            if hook.name == leg.added and tensor.shape == self.shape:
                self.own[leg.at] = _moved(tensor)[rows, self.chosen]
            if leg.ends(hook.name, self.moved):
                self.moved[leg.at] = _moved(tensor)
            if hook.name == leg.before:
                self.shape = tensor.shape
                edited = (tensor[-1:, :1].expand_as(tensor) if self.even else tensor).clone()
                draw = torch.Generator().manual_seed(number)
                edited[rows, self.chosen] += 4 * tensor.std() * torch.randn(len(rows), tensor.shape[-1], generator=draw)
        return edited


@dataclass(slots=True)
class _Differentiation:
    """Rows of which each has the gradient of one position where a leg ends, by the stream where the leg starts."""

    legs: Sequence[Leg]
    chosen: Tensor
    even: bool = False
    shares: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    starts: dict[str, Tensor] = field(default_factory=dict)

    def hook(self, tensor: Tensor, hook: Any) -> Tensor | None:
        """At every hook of every leg; a leg's graph is let go where it ends, unless it is the only one."""
        rows, changed = torch.arange(len(self.chosen)), None
        for leg in self.legs:
            if hook.name == leg.added and tensor.shape == self.starts[leg.at].shape:
                self.own[leg.at] = _shares(tensor, self.starts[leg.at], rows, self.chosen)[rows, self.chosen]
            if leg.ends(hook.name, self.shares):
                self.shares[leg.at] = _shares(tensor, self.starts[leg.at], rows, self.chosen)
                if self.even:
                    self.starts.pop(leg.at)
                    changed = tensor.detach()
            if hook.name == leg.before:
                start = (tensor[:1, :1].expand_as(tensor) if self.even else tensor).detach().clone()
                changed = self.starts[leg.at] = start.requires_grad_()
        return changed


def _whole(pair: Pair) -> Leg:
    every = layers(pair)
    return Leg("all layers", every[0].before, every[-1].after, every[-1].behind)


def _names(legs: Sequence[Leg]) -> set[str]:
    return {name for leg in legs for name in (leg.before, leg.after, leg.behind, leg.added) if name}


def _rows(pair: Pair, chosen: Sequence[int], spare: int = 0, times: int = 1) -> Sequence[Tensor]:
    """The positions in parts, one a row, so that a forward stays small; `spare` rows go to none."""
    parts: Sequence[Tensor] = torch.tensor(chosen).split(max(1, MOST_TOKENS // (pair.length * times) - spare))
    return parts


def _differentiated(pair: Pair, legs: Sequence[Leg], part: _Differentiation) -> Tensor:
    """One forward with a graph, and the backward that the hooks of `part` run on the way."""
    names, bridge = _names(legs), pair.boot.bridge
    pair.boot.forwards["subject backward"] += 1
    with blamed_on_subject(), bridge.hooks(fwd_hooks=[(names.__contains__, part.hook)]):
        logits = pair.guarded(bridge, pair.batched(len(part.chosen)), grad=True)
    if not isinstance(logits, Tensor):
        raise SubjectRaised(f"the forward returned {type(logits).__name__}, no tensor")
    return logits


def _shares(end: Tensor, start: Tensor, rows: Tensor, at: Tensor) -> Tensor:
    """Row by row how strongly the gradient of one position of `end`, in a seeded direction, reaches each of `start`."""
    if not end.requires_grad:
        return start.new_zeros(start.shape[:2])
    seeds = torch.zeros_like(end)
    seeds[rows, at] = torch.randn(len(rows), end.shape[-1], generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(end, start, seeds, retain_graph=True, allow_unused=True)
    if gradient is None:
        return start.new_zeros(start.shape[:2])
    size = gradient.abs().amax(dim=-1)
    return size / size.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)


def _moved(tensor: Tensor) -> Tensor:
    """How far each position lies from that of the last row, `row position`."""
    return torch.stack([(row - tensor[-1]).abs().amax(dim=-1) for row in tensor[:-1]]).detach()


def _seen(pair: Pair, leg: Leg, keys: list[int], parts: Sequence[_Perturbation], judge: Pair) -> Seen:
    got = (_joined(pair, leg, [part.moved for part in parts]) > SIGNIFICANT * judge.allowed(leg.after)).T
    own = all(leg.at in part.own for part in parts)
    if own:
        budget = SIGNIFICANT * judge.allowed(str(leg.added))
        got[keys, torch.arange(len(keys))] = torch.cat([part.own[leg.at] for part in parts]) > budget
    return Seen(leg.at, got, list(range(pair.length)), keys, own)


def _reached(pair: Pair, leg: Leg, queries: list[int], parts: Sequence[_Differentiation]) -> Seen:
    got = _joined(pair, leg, [part.shares for part in parts]) > REACHED
    own = all(leg.at in part.own for part in parts)
    if own:
        got[torch.arange(len(queries)), queries] = torch.cat([part.own[leg.at] for part in parts]) > OWN
    return Seen(leg.at, got, queries, list(range(pair.length)), own)


def _joined(pair: Pair, leg: Leg, parts: Sequence[dict[str, Tensor]]) -> Tensor:
    for part in parts:
        if leg.at not in part:
            raise SubjectRaised(f"{leg.after} does not fire, so nothing is known of the residual stream")
    return torch.cat([part[leg.at] for part in parts])
