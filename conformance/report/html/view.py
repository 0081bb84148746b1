"""What the page shows, by section, made from the report: plain values, in which a template only chooses words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...finding import MET
from ...requirement import FAMILIES
from ..document import Document
from . import hooks, masks, speed, taps
from .rows import VERDICTS, Json, command_of, families, node, rows

SECTIONS = {
    "masks": "Masks",
    "taps": "Error per tap",
    "hooks": "Hooks",
    "speed": "Throughput",
    "mutants": "Mutants",
}
"""Parts of the evidence on one adapter, each shown where there is something to show."""


def page(document: Document) -> dict[str, Any]:
    """All that the template needs."""
    verdicts, measured = document["verdicts"], document.get("measurements", {})
    adapters = verdicts["adapters"]
    every = rows(adapters, verdicts.get("contract", ""), measured)
    return {
        "title": adapters[0]["adapter"] if len(adapters) == 1 else f"{len(adapters)} adapters",
        "state": verdicts["state"],
        "contract": verdicts.get("contract", ""),
        "versions": verdicts.get("versions", {}),
        "digest": document.get("digest", ""),
        "schema": document.get("schema", ""),
        "marks": VERDICTS,
        "fates": hooks.FATES,
        "anchors": {row.id: row.anchor for row in every},
        "adapters": [_adapter(number, adapter, measured) for number, adapter in enumerate(adapters)],
        "families": [(family, [row for row in every if row.id.startswith(f"{family}/")]) for family in families(every)],
        "words": any(row.sentence for row in every),
        "counts": Counter(entry.verdict for row in every for entry in row.entries),
        "host": measured.get("host", {}),
        "models": measured.get("models", {}),
        "forwards": measured.get("forwards", {}),
        "seconds": measured.get("seconds", {}),
    }


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
        "taps": [taps.plot(layout, errors[layout], _declared(results, layout)) for layout in errors if errors[layout]],
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
        "families": {family: _tally(results, family) for family in FAMILIES},
        "proven": _proven(adapter.get("coverage", {})),
        "divergences": list(_divergences(results)),
        "unmet": [result for result in results if result["verdict"] in ("FAIL", "ERROR")],
        "blocking": list(_blocking(results)),
        "blocked": Counter(result.get("cause", "") for result in results if result["verdict"] == "BLOCKED"),
        "left_out": left_out,
        "mutant_command": command_of(adapter, measured, "--mutants"),
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


def _declared(results: Sequence[Json], layout: str) -> set[str]:
    """Taps that are declared to be off in a layout."""
    mine = (result for result in results if (result["requirement"], result.get("layout")) == ("parity/taps", layout))
    return {finding["at"] for result in mine for finding in result.get("declared", ())}


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
