"""Requirements as rows of the page: their words, and every adapter's verdicts with all that they rest on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from urllib.parse import quote

from ...requirement import CONTRACT_VERSION, FAMILIES, Occasion, requirements
from . import hooks

Json = Mapping[str, Any]

VERDICTS = {
    "PASS": ("✓", "met"),
    "DEVIATION": ("≈", "deviates as declared"),
    "REFUSED": ("∅", "declined, with an error that says so"),
    "BLOCKED": ("⊘", "something it needs is not met"),
    "FAIL": ("✗", "not met"),
    "ERROR": ("!", "the suite broke down"),
}
"""Mark and meaning of each verdict, best first; a mark never stands without a word that can be read out."""

ELSEWHERE = frozenset({"hooks", "tree", "relations", "divergence"})
"""Facts that have a section of their own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What came of a requirement in one adapter, in the layouts in which the same came of it."""

    adapter: int
    verdict: str
    layouts: tuple[str, ...]
    result: Json
    command: str

    @property
    def reasons(self) -> list[tuple[str, list[Json]]]:
        """Declared findings under the reason that declares them."""
        declared = self.result.get("declared", ())
        return [(why, [*each]) for why, each in groupby(declared, key=lambda finding: finding.get("because", ""))]

    @property
    def unproven(self) -> list[str]:
        """Places of which nothing is said, layers joined."""
        return hooks.joined(self.result.get("unproven", ()))

    @property
    def facts(self) -> dict[str, str]:
        """Exact results as text, those left out that are drawn elsewhere."""
        facts = {name: value for name, value in self.result.get("facts", {}).items() if name not in ELSEWHERE}
        return {name: _plain(value) for name, value in facts.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """A requirement with its words, empty where the contract is another, and every adapter's verdicts on it."""

    id: str
    level: str
    sentence: str = ""
    reason: str = ""
    needs: tuple[str, ...] = ()
    entries: list[Entry] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The part of the id behind the family."""
        return self.id.partition("/")[2]

    @property
    def anchor(self) -> str:
        """What a link to it ends with: the id, which is the same in every report."""
        return quote(self.id, safe="/", errors="replace")

    @property
    def open(self) -> bool:
        """Whether it needs to be seen at once."""
        return any(entry.verdict in ("FAIL", "ERROR") for entry in self.entries)

    @property
    def chips(self) -> dict[str, list[str]]:
        """Layouts by verdict."""
        found: dict[str, list[str]] = {}
        for entry in self.entries:
            found.setdefault(entry.verdict, []).extend(entry.layouts)
        return found

    def cells(self, adapters: int) -> list[list[Entry]]:
        """Entries by adapter."""
        return [[entry for entry in self.entries if entry.adapter == number] for number in range(adapters)]


def rows(adapters: Sequence[Json], contract: str, measured: Json) -> list[Row]:
    """Requirements in the order in which the first adapter that has them was judged by them."""
    known = requirements() if contract == CONTRACT_VERSION else {}
    rows: dict[str, Row] = {}
    for number, adapter in enumerate(adapters):
        results = adapter.get("results", ())
        for id in dict.fromkeys(result["requirement"] for result in results):
            mine = [result for result in results if result["requirement"] == id]
            said = known.get(id)
            row = Row(id, mine[0]["level"], *((said.sentence, said.reason, said.needs) if said else ()))
            complete = said is not None and said.run is Occasion.COMPLETE
            command = command_of(adapter, measured, "--complete" if complete else "")
            rows.setdefault(id, row).entries.extend(_entries(number, adapter["adapter"], mine, command))
    return list(rows.values())


def families(rows: Sequence[Row]) -> list[str]:
    """Families that have rows, in the order of the contract, unknown ones last."""
    found = dict.fromkeys(row.id.partition("/")[0] for row in rows)
    return [*(family for family in FAMILIES if family in found), *(each for each in found if each not in FAMILIES)]


def worst(verdicts: Sequence[str]) -> str:
    """The one that matters."""
    return max(verdicts, key=list(VERDICTS).index)


def figure(value: object) -> str:
    """A number as a reader wants it: grouped digits of counts, three significant ones of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return f"{value:,}".replace(",", "\N{THIN SPACE}") if isinstance(value, int) else f"{value:.3g}"


def node(requirement: str, adapter: str, layout: str | None) -> str:
    """The pytest node id of a case."""
    family, _, name = requirement.partition("/")
    return f"conformance.{family}::{name.replace('-', '_')}[{adapter}{f'-{layout}' if layout else ''}]"


def command_of(adapter: Json, measured: Json, *options: str) -> str:
    """How pytest is asked for one adapter as it was judged; of a spec of one's own only the name is known."""
    model, name = adapter.get("model", {}), adapter["adapter"]
    if model.get("miniature", True):
        where: tuple[str, ...] = ()
    else:
        where = "--checkpoint", measured.get("models", {}).get(name, model.get("label", "")), "--trust-remote-code"
    return shlex.join(("pytest", "--adapter", name, *where, *filter(None, options)))


def _entries(number: int, adapter: str, results: Sequence[Json], command: str) -> Iterator[Entry]:
    same: dict[str, list[Json]] = {}
    for result in results:
        told = {name: value for name, value in result.items() if name not in ("layout", "facts")}
        told["facts"] = {name: value for name, value in result.get("facts", {}).items() if name not in ELSEWHERE}
        same.setdefault(json.dumps(told, sort_keys=True), []).append(result)
    for each in same.values():
        nodes = (shlex.quote(node(result["requirement"], adapter, result.get("layout"))) for result in each)
        layouts = tuple(result["layout"] for result in each if "layout" in result)
        yield Entry(number, each[0]["verdict"], layouts, each[0], " ".join((command, *nodes)))


def _plain(value: object) -> str:
    """A fact in words: `subject 225, reference 195`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_plain, value)) or "none"
    return figure(value)
