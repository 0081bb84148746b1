"""The one registry: every requirement with its sentence, its level and the check that implements it.

pytest items, CONTRACT.md, the report and the ledger's validation all read this registry. A check's
parameters say what it is about: one that takes `pair` runs once per layout, any other once per adapter.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from .finding import Finding

FAMILIES = (
    "loading",
    "hooks",
    "cache",
    "mask",
    "parity",
    "gradients",
    "interventions",
    "denoising",
    "throughput",
    "snapshot",
)
"""Families in the order in which they run and are reported; each is a module under `checks/`."""

BLOCKING = ("loading/boots", "loading/independence", "loading/runs")
"""Requirements without which nothing else can be judged, each in the layouts that it speaks of."""

CONTRACT_VERSION = "1"

Check = Callable[..., Iterator[Finding]]


class Level(StrEnum):
    """How much a requirement weighs: MUST decides the verdict of a run, SHOULD is listed and counted."""

    MUST = "MUST"
    SHOULD = "SHOULD"


MUST, SHOULD = Level.MUST, Level.SHOULD


class Occasion(StrEnum):
    """In which runs a requirement is judged; the value is how a user asks for it."""

    EVERY = "every run"
    COMPLETE = "--complete"
    CHECKPOINT = "--checkpoint"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One MUST or SHOULD sentence with a stable id `family/name`, and its check."""

    id: str
    level: Level
    needs: tuple[str, ...]
    since: str
    sentence: str
    reason: str
    check: Check
    parameters: tuple[str, ...]
    run: Occasion = Occasion.EVERY

    @property
    def family(self) -> str:
        """The part of the id before the slash."""
        return self.id.partition("/")[0]

    @property
    def per_layout(self) -> bool:
        """Whether there is one verdict per layout instead of one per adapter."""
        return "pair" in self.parameters

    @property
    def digest(self) -> str:
        """A hash of the sentence, as `contract.lock` keeps it."""
        return hashlib.sha256(self.sentence.encode()).hexdigest()[:16]

    @property
    def node(self) -> str:
        """The pytest node id without its parameters: `conformance.hooks::fires`."""
        return f"conformance.{self.family}::{self.check.__name__}"


_REGISTRY: dict[str, Requirement] = {}


def requirement(
    id: str, *, level: Level = MUST, needs: tuple[str, ...] = (), since: str = "1", run: Occasion = Occasion.EVERY
) -> Callable[[Check], Check]:
    """Register a check; its docstring's first paragraph is the sentence, the rest says why it matters.

    `run` leaves it out of runs that cannot afford it, or have nothing to hold it against.
    """

    def register(check: Check) -> Check:
        sentence, _, reason = inspect.cleandoc(check.__doc__ or "").partition("\n\n")
        sentence, family = " ".join(sentence.split()), id.partition("/")[0]
        if f" {level} " not in f" {sentence} ":
            raise ValueError(f"{id}: the docstring's first paragraph must contain the word {level}")
        if family not in FAMILIES or id in _REGISTRY:
            raise ValueError(f"{id}: ids are unique and start with one of {', '.join(FAMILIES)}")
        if id.replace("-", "_") != f"{family}/{check.__name__}":
            raise ValueError(f"{id}: its check must be named {id.partition('/')[2].replace('-', '_')}")
        _REGISTRY[id] = Requirement(
            id=id,
            level=level,
            needs=needs,
            since=since,
            sentence=sentence,
            reason=" ".join(reason.split()),
            check=check,
            parameters=tuple(inspect.signature(check).parameters),
            run=run,
        )
        return check

    return register


def module_of(family: str) -> str:
    """The module, and so the name for `-p no:`, of one family of checks."""
    return f"{__package__}.checks.{family}"


def requirements() -> dict[str, Requirement]:
    """Every requirement by id, family by family, in the order in which the modules state them."""
    for family in FAMILIES:
        importlib.import_module(module_of(family))
    unknown = [(r.id, need) for r in _REGISTRY.values() for need in r.needs if need not in _REGISTRY]
    if unknown:
        raise ValueError(f"unknown ids under needs=: {unknown}")
    return {r.id: r for family in FAMILIES for r in _REGISTRY.values() if r.family == family}
