"""Conditioning: an argument has an effect exactly where the config says so. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...layout import PerRow
    from ...pair import Pair

MOVES = 100
"""How many budgets the lowest and the highest value of an argument that acts lie apart, at least.

Measured on the miniature that is conditioned on its noise level: more than a hundred thousand.
"""


@requirement("parity/conditioning", level=MUST, needs=("parity/logits",))
def conditioning(pair: Pair) -> Iterator[Finding]:
    """Where the config says that an argument of the rows has no effect, the logits MUST be the same bits whatever its
    value; where it has one, they MUST follow it as the reference's do, from its lowest value to its highest.

    A released model ignores its noise level: one that leaks in is another model, and one that is ignored although
    the config has switched it on is not conditioned at all.
    """
    from ...layout import PerRow

    for name, argument in pair.layout.arguments.items():
        if not isinstance(argument, PerRow):
            continue
        other = pair.boot.turned(pair.layout.name, argument)
        if argument.when and other is None:
            yield Finding("undeclared", name, got="one way in every variant", want="a variant in which it is the other")
        for where in (pair, other):
            if where is not None:
                judged = _followed if argument.acts(where.boot.config) else _ignored
                yield from judged(where, name, argument)


def _ignored(pair: Pair, name: str, argument: PerRow) -> Iterator[Finding]:
    from ...compare import exact

    others = {**pair.inputs, name: pair.draw(pair.rows, 2)[name]}
    yield from exact(name, pair.call(others), pair.plain, case="switched off")


def _followed(pair: Pair, name: str, argument: PerRow) -> Iterator[Finding]:
    import torch

    from ...compare import PATHS, close, distance

    # What is wrong at any value is not the conditioning's fault.
    sound, allowed = not pair.differs("logits"), pair.allowed("logits", PATHS)
    ends = []
    for level in argument.levels:
        inputs = {**pair.inputs, name: torch.full((pair.rows,), level)}
        got = pair.call(inputs)
        if sound:
            yield from close(name, got, pair.reference_logits(inputs), allowed, case=f"switched on, at {level:.2g}")
        ends.append(got)
    if distance(ends[0], ends[-1]) <= MOVES * allowed:
        yield Finding("no-effect", name, got="the same logits at both ends", want="other ones", case="switched on")
