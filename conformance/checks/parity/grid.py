"""The grid: what is right on one input is right on others, by batch, length and noise level. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from .taps import first_flaws, flaws

if TYPE_CHECKING:
    from ...pair import Pair

LEVELS = ("lowest", "tiny", "middle", "highest")
"""What `PerRow.levels` are, in this order."""

MOST_TOKENS = 1024
"""Tokens in one run in which every hook is looked at, beside those of the pair's own input; in more only the logits."""


@dataclass(frozen=True, slots=True)
class Run:
    """One input of the grid: how long a ragged stream is, and the noise of each row by the name of its level."""

    length: str
    levels: tuple[str, ...]

    def __str__(self) -> str:
        return f"batch {len(self.levels)}, {self.length}, noise {' '.join(dict.fromkeys(self.levels))}"


RUNS = (
    Run("longest", ("lowest", "tiny", "middle")),
    Run("one token", ("highest",)),
    Run("whole block", ("lowest",)),
    Run("inside a block", ("highest", "highest", "highest")),
    Run("longest", ("tiny",)),
)
"""Few inputs in which every batch size, every length and every level occurs, in any layout."""


@requirement("parity/grid", level=MUST, needs=("parity/logits", "parity/taps"))
def grid(pair: Pair) -> Iterator[Finding]:
    """Logits and hooks that are right on one input MUST be right in batches of one and of three, on streams from one
    token to the longest, and at noise levels from none to the highest, the same or another in every row.

    A sweep over noise levels ends at both ends of the schedule, and a sampler begins with one token.
    """
    from ...pair import SubjectRaised

    wrong = frozenset(flaw.at for flaw in first_flaws(pair))
    for run in RUNS:
        try:
            yield from (replace(flaw, case=str(run)) for flaw in _wrong(pair, run, wrong))
        except SubjectRaised as error:
            yield Finding("raised", "forward", got=str(error), want="a forward that returns logits", case=str(run))


def _on(pair: Pair, run: Run) -> Pair:
    """The pair on one input of the grid."""
    import torch

    from ...layout import PerRow
    from ...pair import OTHER_SEED

    batch, arguments = len(run.levels), dict[str, Any]()
    for name, value in pair.layout.arguments.items():
        if isinstance(value, PerRow):
            by_name = dict(zip(LEVELS, value.levels, strict=True))
            arguments[name] = torch.tensor([by_name[level] for level in run.levels])
    if pair.layout.ragged:
        longest, block = (pair.boot.sizes.get(name, pair.length) for name in ("n", "block"))
        lengths = {"one token": 1, "whole block": block, "inside a block": longest - max(block // 2, 1)}
        drawn = [pair.draw(batch, OTHER_SEED + part)["input_ids"] for part in range(-(-longest // pair.length))]
        arguments["input_ids"] = torch.cat(drawn, dim=1)[:, : lengths.get(run.length, longest)]
    return pair.other(batch, OTHER_SEED, **arguments)


def _wrong(pair: Pair, run: Run, wrong: frozenset[str]) -> Iterator[Finding]:
    """What is wrong on one input of the grid and not on the pair's own."""
    from ...compare import PATHS, close

    other = _on(pair, run)
    if other.rows * other.length <= MOST_TOKENS:
        yield from flaws(other, wrong)
    elif "logits" not in wrong:
        allowed = pair.allowed("logits", PATHS)
        yield from close("logits", other.plain, other.reference_logits(), allowed)
