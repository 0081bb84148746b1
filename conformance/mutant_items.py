"""Mutants as pytest nodes: each passes when the requirement that is declared for it notices it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .request import Placed

if TYPE_CHECKING:
    from .kills import Kill

Killing = Callable[[Placed], "Kill"]


class Unproven(Exception):
    """A mutant that proves nothing, or that the suite broke down on; the message is what is printed."""


class Mutations(pytest.Collector):
    """The root of all mutants, next to the suite."""

    placed: list[Placed]
    killing: Killing

    def collect(self) -> Iterator[pytest.Item]:
        """One item per mutant and adapter."""
        for placed in self.placed:
            family, name = placed.node.removeprefix("conformance.mutants.").split("::")
            item = MutantItem.from_parent(self, name=name, nodeid=placed.node)
            item.placed, item.killing = placed, self.killing
            told = {"adapter": placed.spec.name, "mutant": placed.mutant.id, "requirement": placed.mutant.kills}
            item.user_properties += told.items()
            for mark in ("mutant", family):
                item.add_marker(mark)
            yield item


class MutantItem(pytest.Item):
    """One mutant in one adapter."""

    placed: Placed
    killing: Killing
    kill: Kill | None = None
    seconds = 0.0

    @property
    def family(self) -> str:
        """The family in which it must be noticed."""
        return self.placed.mutant.id.partition("/")[0]

    def runtest(self) -> None:
        """Put it in, and see who notices."""
        from .kills import Fate

        started = time.perf_counter()
        self.kill = self.killing(self.placed)
        self.seconds = time.perf_counter() - started
        self.user_properties.append(("fate", str(self.kill.fate)))
        match self.kill.fate:
            case Fate.NO_PLACE | Fate.MOOT | Fate.EQUIVALENT | Fate.FORESTALLED:
                pytest.skip(f"{self.kill.fate}: {self.kill.cause}")
            case Fate.SURVIVED | Fate.ERROR:
                raise Unproven(f"{self.kill.fate}: {self.kill.cause}\n{self.placed.mutant.story}")

    def told(self, ended: str) -> dict[str, Any]:
        """What the report says of it; `ended` is how the item ended that has no kill."""
        from .kills import Fate, Kill

        mutant = self.placed.mutant
        kill = self.kill or Kill(mutant.id, mutant.kills, Fate.ERROR, cause=ended)
        return {"kill": kill.as_json(), "measurements": {"seconds": round(self.seconds, 4)}}

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the defect is written."""
        code = self.placed.mutant.apply.__code__
        return Path(code.co_filename), code.co_firstlineno - 1, self.nodeid

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """Its message; a traceback only where the mutant itself is broken."""
        return str(excinfo.value) if isinstance(excinfo.value, Unproven) else super().repr_failure(excinfo)
