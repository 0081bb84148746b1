"""Known defects put back into a good adapter, one at a time, to show that the suite notices.

Modules mirror `checks/`. A mutant is a short edit of a boot that has not happened yet; its docstring tells the
defect, and names the past one where there was one. It speaks of an adapter in the words of its spec, and raises
`NoPlace` where that has not got what it breaks. `conformance.kills` puts it in and asks who notices.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..requirement import FAMILIES

if TYPE_CHECKING:
    from ..subject import Boot

Apply = Callable[["Boot"], None]


class NoPlace(BaseException):
    """An adapter has nothing for a defect to sit in; the message says what is missing.

    No error, which a check might put down to the adapter: nothing catches it but who put the mutant in.
    """


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defect; `kills` is the requirement that must notice it."""

    kills: str
    story: str
    apply: Apply

    @property
    def id(self) -> str:
        """`hooks/renamed`: the family of the requirement and the name of the function."""
        return f"{self.kills.partition('/')[0]}/{self.apply.__name__.replace('_', '-')}"


_MUTANTS: dict[str, Mutant] = {}


def mutant(kills: str) -> Callable[[Apply], Apply]:
    """Register a defect that the requirement `kills` must notice."""

    def register(apply: Apply) -> Apply:
        defect = Mutant(kills, " ".join(inspect.cleandoc(apply.__doc__ or "").split()), apply)
        if not defect.story or defect.id in _MUTANTS:
            raise ValueError(f"mutant {defect.id}: wants a docstring that tells its story, and a name of its own")
        _MUTANTS[defect.id] = defect
        return apply

    return register


def mutants() -> dict[str, Mutant]:
    """Every mutant by id, family by family."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
    return {m.id: m for family in FAMILIES for m in _MUTANTS.values() if m.kills.startswith(f"{family}/")}
