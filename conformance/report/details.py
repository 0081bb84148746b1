"""What else differs in a result whose verdict is the same: facts, reasons and places that no other part tells of."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PARTS = ("level", "findings", "declared", "unproven", "cause", "facts")
"""Of a result, in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One result, and the parts of it that are others."""

    requirement: str
    layout: str | None
    parts: tuple[str, ...]


Results = Mapping[tuple[str, str | None], Mapping[str, Any]]


Places = Container[tuple[str, str | None]]


def details(old: Results, new: Results, told: Places, shown: Places) -> Iterator[Detail]:
    """Results that both have and that differ, without findings of those that are `told` and facts of those `shown`."""
    for place, result in new.items():
        if place not in old:
            continue
        known = {"findings", "declared"} if place in told else set()
        known |= {"facts"} if place in shown else set()
        parts = tuple(part for part in PARTS if part not in known and old[place].get(part) != result.get(part))
        if parts:
            yield Detail(*place, parts)
