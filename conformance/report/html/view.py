"""What the page shows, by section, made from the report: plain values, in which a template only chooses words."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from ...finding import MET
from ...requirement import CONTRACT_VERSION, FAMILIES, Occasion, requirements
from ..document import Document
from . import hooks, masks, speed, taps

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

SECTIONS = {
    "masks": "Masks",
    "taps": "Error per tap",
    "hooks": "Hooks",
    "speed": "Throughput",
    "mutants": "Mutants",
}
"""Parts of the evidence on one adapter, each shown where there is something to show."""


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


def page(document: Document) -> dict[str, Any]:
    """All that the template needs."""
    verdicts, measured = document["verdicts"], document.get("measurements", {})
    adapters = verdicts["adapters"]
    rows = _rows(adapters, verdicts.get("contract", ""), measured)
    return {
        "title": adapters[0]["adapter"] if len(adapters) == 1 else f"{len(adapters)} adapters",
        "state": verdicts["state"],
        "contract": verdicts.get("contract", ""),
        "versions": verdicts.get("versions", {}),
        "digest": document.get("digest", ""),
        "schema": document.get("schema", ""),
        "marks": VERDICTS,
        "fates": hooks.FATES,
        "anchors": {row.id: number for number, row in enumerate(rows)},
        "adapters": [_adapter(number, adapter, measured) for number, adapter in enumerate(adapters)],
        "families": [(family, [row for row in rows if row.id.startswith(f"{family}/")]) for family in _families(rows)],
        "words": any(row.sentence for row in rows),
        "counts": Counter(entry.verdict for row in rows for entry in row.entries),
        "host": measured.get("host", {}),
        "models": measured.get("models", {}),
        "forwards": measured.get("forwards", {}),
        "seconds": measured.get("seconds", {}),
    }


def figure(value: object) -> str:
    """A number as a reader wants it: grouped digits of counts, three significant ones of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return f"{value:,}".replace(",", "\N{THIN SPACE}") if isinstance(value, int) else f"{value:.3g}"


def worst(verdicts: Sequence[str]) -> str:
    """The one that matters."""
    return max(verdicts, key=list(VERDICTS).index)


def node(requirement: str, adapter: str, layout: str | None) -> str:
    """The pytest node id of a case."""
    family, _, name = requirement.partition("/")
    return f"conformance.{family}::{name.replace('-', '_')}[{adapter}{f'-{layout}' if layout else ''}]"


def _families(rows: Sequence[Row]) -> list[str]:
    found = dict.fromkeys(row.id.partition("/")[0] for row in rows)
    return [*(family for family in FAMILIES if family in found), *(each for each in found if each not in FAMILIES)]


def _rows(adapters: Sequence[Json], contract: str, measured: Json) -> list[Row]:
    """Requirements in the order in which the first adapter that has them was judged by them."""
    known = requirements() if contract == CONTRACT_VERSION else {}
    rows: dict[str, Row] = {}
    for number, adapter in enumerate(adapters):
        results = adapter.get("results", ())
        for id in dict.fromkeys(result["requirement"] for result in results):
            mine = [result for result in results if result["requirement"] == id]
            said = known.get(id)
            row = (
                Row(id, mine[0]["level"], said.sentence, said.reason, said.needs) if said else Row(id, mine[0]["level"])
            )
            complete = said is not None and said.run is Occasion.COMPLETE
            command = _command(adapter, measured, "--complete" if complete else "")
            rows.setdefault(id, row).entries.extend(_entries(number, adapter["adapter"], mine, command))
    return list(rows.values())


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


def _command(adapter: Json, measured: Json, *options: str) -> str:
    """How pytest is asked for one adapter as it was judged; of a spec of one's own only the name is known."""
    model, name = adapter.get("model", {}), adapter["adapter"]
    if model.get("miniature", True):
        where: tuple[str, ...] = ()
    else:
        where = "--checkpoint", measured.get("models", {}).get(name, model.get("label", "")), "--trust-remote-code"
    return shlex.join(("pytest", "--adapter", name, *where, *filter(None, options)))


def _adapter(number: int, adapter: Json, measured: Json) -> dict[str, Any]:
    results, name = adapter.get("results", ()), adapter["adapter"]
    cases = measured.get("cases", {})

    def measurements(requirement: str, layout: str | None) -> Json:
        found: Json = cases.get(node(requirement, name, layout), {})
        return found

    left_out: dict[str, list[str]] = {}
    for id, option in adapter.get("left_out", {}).items():
        left_out.setdefault(option, []).append(id)
    model = {"label": "model unknown", "miniature": False, **adapter.get("model", {})}
    errors = {layout: measurements("parity/taps", layout).get("taps", ()) for layout in adapter.get("layouts", ())}
    parts: dict[str, Any] = {
        "masks": list(masks.figures(results)),
        "taps": [taps.plot(layout, errors[layout]) for layout in errors if errors[layout]],
        "hooks": list(hooks.trees(results, adapter.get("coverage", {}), errors)),
        "speed": speed.ratios(lambda id: measurements(id, None)),
        "counts": speed.counts(results),
        "baseline": measurements("throughput/baseline", None).get("baseline", {}),
        "mutants": _mutants(adapter),
    }
    present = {
        **{place: bool(parts[place]) for place in ("masks", "taps", "hooks")},
        "speed": any(parts[place] for place in ("speed", "counts", "baseline")),
        "mutants": bool(parts["mutants"]["all"]),
    }
    return {
        **parts,
        "sections": [(place, title) for place, title in SECTIONS.items() if present[place]],
        "number": number,
        "name": name,
        "architecture": adapter.get("architecture", ""),
        "model": model,
        "sizes": adapter.get("sizes", {}),
        "layouts": adapter.get("layouts", ()),
        "summary": {"red": False, "levels": {}, "refused": 0, "deviations": 0, **adapter["summary"]},
        "verdicts": Counter(result["verdict"] for result in results),
        "families": {family: _tally(results, family) for family in FAMILIES},
        "proven": _proven(adapter.get("coverage", {})),
        "divergences": list(_divergences(results)),
        "unmet": [result for result in results if result["verdict"] in ("FAIL", "ERROR")],
        "blocking": list(_blocking(results)),
        "blocked": Counter(result.get("cause", "") for result in results if result["verdict"] == "BLOCKED"),
        "left_out": left_out,
        "mutant_command": _command(adapter, measured, "--mutants"),
    }


def _tally(results: Sequence[Json], family: str) -> dict[str, int]:
    mine = Counter(result["verdict"] for result in results if result["requirement"].startswith(f"{family}/"))
    met = sum(count for verdict, count in mine.items() if verdict in MET)
    return {**dict.fromkeys(VERDICTS, 0), **mine, "met": met, "of": mine.total()}


def _proven(coverage: Mapping[str, Json]) -> dict[str, list[str]]:
    """Layouts by how many hooks are proven there: `91/125`."""
    found: dict[str, list[str]] = {}
    for layout, covered in coverage.items():
        found.setdefault(f"{covered['proven']}/{covered['advertised']}", []).append(layout)
    return found


def _blocking(results: Sequence[Json]) -> Iterator[tuple[Json, Json]]:
    """Declared findings on which all that is blocked would have to rest, the first of each requirement."""
    causes = {result.get("cause", "").partition(" ")[0] for result in results if result["verdict"] == "BLOCKED"}
    for result in results:
        if result["requirement"] in causes and result.get("declared"):
            causes.remove(result["requirement"])
            yield result, result["declared"][0]


def _divergences(results: Sequence[Json]) -> Iterator[tuple[str, str]]:
    for result in results:
        if said := result.get("facts", {}).get("divergence"):
            yield result.get("layout", ""), str(said)


def _mutants(adapter: Json) -> dict[str, Any]:
    """Kills by family with a row of counts each; empty where no mutant was put in."""
    kills = adapter.get("mutants", ())
    fates = dict.fromkeys(kill["fate"] for kill in kills)
    families = dict.fromkeys(kill["kills"].partition("/")[0] for kill in kills)
    rows = {family: [kill for kill in kills if kill["kills"].startswith(f"{family}/")] for family in families}
    return {
        "all": kills,
        "fates": list(fates),
        "rows": {family: (Counter(kill["fate"] for kill in mine), mine) for family, mine in rows.items()},
        "summary": adapter["summary"].get("mutants", {}),
    }


def _plain(value: object) -> str:
    """A fact in words: `subject 225, reference 195`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_plain, value)) or "none"
    return figure(value)
