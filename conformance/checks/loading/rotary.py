"""Rotation: the angles by which queries and keys are turned, judged by the attention. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement
from ...spec import pattern_of, places

if TYPE_CHECKING:
    from torch import Tensor

    from ...facts import Rotary
    from ...pair import Pair


@dataclass(frozen=True, slots=True)
class Turn:
    """A mistaken rotation: what it is like, and in what it differs from the model's.

    `positions` are made from the layout's positions and the index in the stream; `base` is that of the angles,
    `radius` the length of (cos, sin), `share` how much of what the model turns is turned, or more up to a whole head,
    `adjacent` says that channel 2i is paired with 2i+1, `parts` which of queries and keys are turned.
    """

    like: str
    positions: Callable[[Tensor, Tensor], Tensor] = lambda positions, index: positions
    base: float | None = None
    radius: float = 1.0
    share: float = 1.0
    adjacent: bool = False
    parts: tuple[bool, bool] = (True, True)


TURNS = (
    Turn("the tables were zero", radius=0.0),
    Turn("nothing were rotated", lambda positions, index: 0 * positions),
    Turn("only queries were rotated", parts=(True, False)),
    Turn("only keys were rotated", parts=(False, True)),
    Turn("positions did not restart", lambda positions, index: index),
    Turn("positions ran backwards", lambda positions, index: -positions),
    Turn(
        "the second half stood one position further", lambda positions, index: positions + 1 * (2 * index >= len(index))
    ),
    Turn("the second half stood one position back", lambda positions, index: positions - 1 * (2 * index >= len(index))),
    Turn("only half of the channels were rotated", share=0.5),
    Turn("all channels were rotated", share=math.inf),
    Turn("channels were paired with their neighbours", adjacent=True),
    *(Turn(f"the base were {base:,.0f}", base=base) for base in (1e2, 1e3, 1e4, 1e5, 5e5, 1e6)),
)
"""What is tried where attention differs: past mistakes, and bases in use."""


@requirement("loading/rotary", level=MUST)
def rotary(pair: Pair) -> Iterator[Finding]:
    """Queries and keys MUST be rotated by the angles of the model's base, at the layout's positions.

    Tables are built by code and cached by length, so that nothing in a file gives a wrong one away; the logits of a
    model without positions look like logits.
    """
    from ...compare import distance, within

    turns = pair.boot.spec.rotary
    if turns is None or pair.boot.oracle is None:
        return
    # Tables that are wrong where they are shown are so for the same reason.
    wrong = [name for name in pair.mismatches() if not turns.tables or not name.startswith(f"{turns.tables}.")]
    if not wrong:
        return
    order, _ = _heard(pair, turns)
    rotations = [place for place, name in enumerate(order) if pattern_of(name) in turns.after]
    at = next((name for name in wrong if name in order[rotations[0] :]), "") if rotations else ""
    if not at:
        return
    got, want, allowed = pair.observed.joined(at), pair.want(at), pair.allowed(at)
    if want is None or got.shape != want.shape:
        return
    heard = ((turn, _heard(pair, turns, at, turn)[-1]) for turn in TURNS)
    like = next((turn.like for turn, tensor in heard if within(distance(got, tensor), allowed)), None)
    # Where nothing fits it may be something else that is wrong, as it is where the logits are right, unless rotation
    # is all that is left.
    here = order.index(at)
    since = order[max(place for place in rotations if place <= here) + 1 : here]
    # One of them may be another name of the same hook.
    shown = any(name in pair.observed.taps for name in map(pair.canonical, since) if name != pair.canonical(at))
    if like is None and (at != wrong[0] or shown or not pair.differs("logits") or not _holds_the_relation(pair)):
        return
    said = f"as if {like}" if like else "other attention, by angles that are none of those tried"
    turned = f"rotation with base {turns.base:,.0f} at the positions of {pair.layout.name}"
    yield Finding("other-angles", at, got=said, want=turned, size=distance(got, want), allowed=allowed)


class _Reached(Exception):
    """The oracle has come to the tap that is asked for."""


def _heard(pair: Pair, turns: Rotary, at: str = "", turn: Turn | None = None) -> tuple[list[str], Tensor]:
    """Names of the oracle's taps up to `at`, and the tensor there, where queries and keys are turned in another way.

    Without a name the taps are all there are, and the tensor is empty.
    """
    import torch

    boot = pair.boot
    order: list[str] = []
    before: dict[str, Tensor] = {}
    kinds = tuple(zip(turns.before, turns.after, strict=True))
    named = {
        after: (source, kind)
        for kind, patterns in enumerate(kinds)
        for source, after in zip(*(places(pattern, boot.layers) for pattern in patterns), strict=True)
    }
    reached = torch.empty(0)

    def tap(name: str, tensor: Tensor) -> Tensor:
        nonlocal reached
        order.append(name)
        if pattern_of(name) in turns.before:
            before[name] = tensor
        if turn is not None and name in named:
            source, kind = named[name]
            tensor = _turned(pair, turns, turn, before[source]) if turn.parts[kind] else before[source]
        if name == at:
            reached = tensor
            raise _Reached
        return tensor

    boot.forwards["oracle"] += 1
    assert boot.oracle is not None, "asked for only where there are equations"
    with contextlib.suppress(_Reached), torch.no_grad():
        boot.oracle(boot.params_in(torch.float64), boot.config, pair.inputs, tap)
    return order, reached


def _turned(pair: Pair, turns: Rotary, turn: Turn, x: Tensor) -> Tensor:
    """Queries or keys `batch pos head d_head`, rotated."""
    import torch

    index, width = torch.arange(pair.length), 2 * int(x.shape[-1] * min(turn.share * turns.share, 1.0) / 2)
    positions = turn.positions(pair.layout.positions(index, pair.boot.sizes.get("n", pair.length)), index)
    omega = (turn.base or turns.base) ** (-2 * torch.arange(width // 2, dtype=x.dtype) / width)
    angle = (positions.to(x.dtype)[:, None] * omega)[:, None]
    cos, sin = turn.radius * angle.cos(), turn.radius * angle.sin()
    turning, rest = x[..., :width], x[..., width:]
    left, right = turning.unflatten(-1, (-1, 2)).unbind(-1) if turn.adjacent else turning.chunk(2, dim=-1)
    pairs = (left * cos - right * sin, right * cos + left * sin)
    turned = torch.stack(pairs, dim=-1).flatten(-2) if turn.adjacent else torch.cat(pairs, dim=-1)
    return torch.cat((turned, rest), dim=-1)


def _holds_the_relation(pair: Pair) -> bool:
    """Whether the mask is not to blame: the model holds the one of the layout, or needs none."""
    from ... import components
    from ...sizes import Size

    where = pair.layout.mask
    if where is None:
        return bool(pair.relation.all())
    start = Size(where.start).of(pair.boot.sizes)
    window = slice(start, start + pair.length)
    held = components.at(pair.boot.bridge.original_model, where.path)
    return bool(held is not None and held[window, window].equal(pair.relation))
