"""How fast a run found a bridge: measurements of one adapter, which no digest covers, and two of them compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .document import Document

SLOWER = 1.075
"""How much a ratio has to grow to be slower: what the gate allows between two revisions (`gate.speed.CEILING`)."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The time of the bridge over the model's: the median, and the interval that holds it with 98 %."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pace:
    """One ratio in both runs."""

    requirement: str
    before: Ratio
    after: Ratio

    @property
    def change(self) -> float:
        """By how much it grew: 0.02 is 2 %."""
        return self.after.median / self.before.median - 1

    @property
    def slower(self) -> bool:
        """Whether it grew by more than chance and machines explain: beyond the allowance, in intervals that part."""
        return self.after.median > SLOWER * self.before.median and self.after.low > self.before.high


def cases(document: Document, adapter: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What was measured of one adapter, each case by its node id without parameters."""
    names = {adapter["adapter"], *(f"{adapter['adapter']}-{layout}" for layout in adapter.get("layouts", ()))}
    for node, measured in document.get("measurements", {}).get("cases", {}).items():
        name, _, parameters = node.partition("[")
        if parameters.removesuffix("]") in names:
            yield name, measured


def seconds(document: Document, adapter: Mapping[str, Any]) -> float:
    """What its cases took, all together."""
    return sum(float(measured.get("seconds", 0)) for _, measured in cases(document, adapter))


def ratios(document: Document, adapter: Mapping[str, Any]) -> dict[str, Ratio]:
    """Ratios of time by requirement, of those that were measured."""
    found = {}
    for node, measured in cases(document, adapter):
        if "median" in (told := measured.get("ratio", {})):
            low, high = told.get("interval_98", (told["median"], told["median"]))
            family, _, check = node.removeprefix("conformance.").partition("::")
            found[f"{family}/{check.replace('_', '-')}"] = Ratio(float(told["median"]), float(low), float(high))
    return found


def compared(base: Document, before: Mapping[str, Any], head: Document, after: Mapping[str, Any]) -> Iterator[Pace]:
    """Every ratio that was measured in both runs."""
    was, now = ratios(base, before), ratios(head, after)
    yield from (Pace(name, was[name], ratio) for name, ratio in now.items() if name in was)
