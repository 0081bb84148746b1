"""The ledger: deviations of one adapter that are known, declared and explained; strict in both directions.

An entry stands for exactly the places and layouts it names. A finding that no entry names is a failure,
and so is an entry whose finding is gone (stale) or has become another (drifted).
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import entries, versions
from .finding import Finding, Outcome, Verdict
from .requirement import Requirement
from .spec import AdapterSpec, nearest, pattern_of, places

SHARED = Path(__file__).parent / "adapters" / "transformer_lens.deviations.toml"
FIELDS = {"requirement", "at", "finding", "because", "issue", "layouts", "versions"}
NEEDED = ("requirement", "at", "finding", "because")

UNDECLARABLE = {"loading/independence": (), "parity/oracle": ("no-oracle",)}
"""Requirements that make the judges judges, and the findings against them that may be declared all the same."""


class LedgerError(ValueError):
    """A ledger that cannot be trusted; the message names file, entry and what to write instead."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One `[[deviation]]`: at these places, in these layouts, this finding is known."""

    requirement: str
    at: str
    finding: str
    because: str
    layouts: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    issue: str = ""

    def in_range(self) -> bool:
        """Whether every installed distribution lies in the declared range; else the entry is inert."""
        return versions.hold(self.versions)


@dataclass(frozen=True, slots=True)
class Ledger:
    """All entries that apply to one adapter."""

    entries: tuple[Entry, ...] = ()

    def settle(
        self,
        required: Requirement,
        layout: str | None,
        layers: int,
        found: Sequence[Finding],
        untold: Container[str] = (),
    ) -> Outcome:
        """Match findings with declarations: DEVIATION when they agree one to one, PASS when both are empty.

        Nothing is known of the places in `untold`; an entry that names one is neither used nor stale.
        """
        mine = [e for e in self.entries if e.requirement == required.id and (not e.layouts or layout in e.layouts)]
        declared, inert = [e for e in mine if e.in_range()], [e for e in mine if not e.in_range()]
        left = list(found)
        agreed: list[tuple[str, Finding]] = []
        wrong: list[Finding] = []
        for entry in declared:
            for place in places(entry.at, layers):
                meant = [finding for finding in left if (finding.at, finding.code) == (place, entry.finding)]
                agreed += [(entry.because, finding) for finding in meant]
                left = [finding for finding in left if finding not in meant]
                if not meant and place not in untold:
                    wrong.append(_broken_promise(entry, place, found))
        unexpected = [_with_range(finding, inert, layers) for finding in left]
        if wrong or unexpected:
            return Outcome(Verdict.FAIL, findings=(*unexpected, *wrong), declared=tuple(agreed))
        return Outcome(Verdict.DEVIATION if agreed else Verdict.PASS, declared=tuple(agreed))


def _broken_promise(entry: Entry, place: str, found: Iterable[Finding]) -> Finding:
    others = sorted({finding.code for finding in found if finding.at == place})
    if others:
        return Finding("drifted", place, got=", ".join(others), want=f"{entry.finding}, as the ledger declares")
    return Finding(
        "stale",
        place,
        got="no finding",
        want=f"{entry.finding}, as the ledger declares; delete the entry if it is mended",
    )


def _with_range(finding: Finding, inert: Iterable[Entry], layers: int) -> Finding:
    for entry in inert:
        if entry.finding == finding.code and finding.at in places(entry.at, layers):
            return replace(finding, detail=f"declared only for {', '.join(entry.versions)}\n{finding.detail}".strip())
    return finding


def load(spec: AdapterSpec, known: Mapping[str, Requirement]) -> Ledger:
    """The adapter's own ledger and, for a plain `TransformerBridge`, the shared one; LedgerError when malformed."""
    shared = read(SHARED, known, spec) if spec.plain else []
    return Ledger((*shared, *read(spec.ledger, known, spec)))


def read(path: Path, known: Mapping[str, Requirement], spec: AdapterSpec) -> list[Entry]:
    """Entries of one file, every one validated against the full registry; a file that is missing has none."""
    table = entries.table(path, LedgerError, "ledger ")
    stray = sorted(set(table) - {"deviation"})
    if stray:
        raise LedgerError(f"ledger {path}: unknown table {stray[0]!r}; entries are written as [[deviation]]")
    raw = table.get("deviation", [])
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise LedgerError(f"ledger {path}: write [[deviation]] with two brackets, one table per entry")
    return [_entry(f"ledger {path}, entry {number}", item, known, spec) for number, item in enumerate(raw, 1)]


def _entry(where: str, item: Mapping[str, Any], known: Mapping[str, Requirement], spec: AdapterSpec) -> Entry:
    for name in item:
        if name not in FIELDS:
            raise LedgerError(f"{where}: unknown field {name!r}{nearest(name, FIELDS)}")
    for name in NEEDED:
        if not isinstance(item.get(name), str) or not item[name].strip():
            got = repr(item[name]) if name in item else "missing"
            raise LedgerError(f"{where}: field {name!r} is {got}; every entry says {', '.join(NEEDED)}, as text")
    if item["because"].strip().upper().startswith("TODO"):
        raise LedgerError(f"{where}: because = {item['because']!r} is no reason; say in one sentence why it deviates")
    if not isinstance(item.get("issue", ""), str):
        raise LedgerError(f"{where}: issue is a string, got {item['issue']!r}; write the address of the issue")
    if item["requirement"] not in known:
        raise LedgerError(f"{where}: unknown requirement {item['requirement']!r}{nearest(item['requirement'], known)}")
    if item["requirement"] in UNDECLARABLE and item["finding"] not in UNDECLARABLE[item["requirement"]]:
        raise LedgerError(f"{where}: {item['requirement']} cannot be declared, all else rests on it; mend it")
    if item["finding"] == "unconfirmed":
        raise LedgerError(f"{where}: a question cannot be declared; answer it, then take it out of the spec's `todo`")
    if item["finding"] == "unknown":
        raise LedgerError(f"{where}: what no one has judged cannot be declared; name a point or an oracle tap for it")
    layouts, names = item.get("layouts", []), [layout.name for layout in spec.layouts]
    if not isinstance(layouts, list) or not all(isinstance(part, str) for part in layouts):
        raise LedgerError(f'{where}: layouts is a list of strings, got {layouts!r}; write ["..."]')
    if complaint := versions.complaint(item.get("versions", [])):
        raise LedgerError(f"{where}: {complaint}")
    for layout in layouts:
        if layout not in names:
            raise LedgerError(f"{where}: unknown layout {layout!r}{nearest(layout, names)}")
    if layouts and not known[item["requirement"]].per_layout:
        raise LedgerError(f"{where}: {item['requirement']} is judged once per adapter; remove layouts")
    return Entry(
        requirement=item["requirement"],
        at=item["at"],
        finding=item["finding"],
        because=item["because"],
        layouts=tuple(item.get("layouts", ())),
        versions=tuple(item.get("versions", ())),
        issue=item.get("issue", ""),
    )


def draft(found: Iterable[tuple[str, str | None, str, str]], layers: int, layouts: Sequence[str]) -> str:
    """TOML entries for findings as (requirement, layout, place, code), with the reasons left to write.

    Places that differ by layer alone become one pattern when every layer has them; what is found in every
    layout is declared for all.
    """
    seen: dict[tuple[str, str, str], dict[str, set[str | None]]] = {}
    for required, layout, at, code in found:
        seen.setdefault((required, code, pattern_of(at)), {}).setdefault(at, set()).add(layout)
    blocks = []
    for (required, code, pattern), by_place in seen.items():
        everywhere = list(by_place.values())
        joined = set(by_place) == set(places(pattern, layers)) and everywhere.count(everywhere[0]) == len(everywhere)
        for at, where in [(pattern, everywhere[0])] if joined else by_place.items():
            lines = ["[[deviation]]", f'requirement = "{required}"', f'at = "{at}"', f'finding = "{code}"']
            lines.append('because = "TODO"')
            if None not in where and where != set(layouts):
                lines.append(f"layouts = {json.dumps(sorted(map(str, where)))}")
            blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)
