"""Exact counts of work, which throughput keeps among its facts, and those that are others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Count:
    """An exact count that is another, such as `operators.subject` of one forward."""

    requirement: str
    layout: str | None
    name: str
    base: int | None
    head: int | None


Results = Mapping[tuple[str, str | None], Mapping[str, Any]]


def counts(old: Results, new: Results) -> Iterator[Count]:
    """Every count that is another, of results that both have."""
    for place, result in new.items():
        if not place[0].startswith("throughput/") or place not in old:
            continue
        before, after = (dict(_numbers(part.get("facts", {}))) for part in (old[place], result))
        for name in dict.fromkeys((*after, *before)):
            if before.get(name) != after.get(name):
                yield Count(*place, name, before.get(name), after.get(name))


def _numbers(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int):
            yield f"{prefix}{name}", value
