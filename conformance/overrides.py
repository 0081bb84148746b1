"""Overrides: in which lines, and why, the snapshots of an adapter read otherwise under some versions.

There is one baseline for all versions; what differs stands in `overrides.toml` beside it:

    [[override]]
    snapshot = "config[bd3lm]"
    versions = ["transformers<5.12"]        # all must hold; otherwise the entry is inert
    because  = "the attribute was renamed in 5.12"
    lines    = ["-rope_theta = 10000", "+rotary_base = 10000"]

`lines` are a diff against the baseline, in its order: a line that goes has "-" before it, a line that comes "+", and
one that stays and only says where a blank.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import entries, versions
from .spec import nearest

FILE = "overrides.toml"
FIELDS = ("snapshot", "versions", "because", "lines")


class OverrideError(ValueError):
    """Overrides that cannot be trusted; the message names file, entry and what to write instead."""


@dataclass(frozen=True, slots=True)
class Override:
    """One `[[override]]`: in these versions, a snapshot reads as its baseline with these lines changed."""

    snapshot: str
    versions: tuple[str, ...]
    because: str
    lines: tuple[str, ...]
    where: str

    def in_force(self) -> bool:
        """Whether every installed distribution lies in the declared range."""
        return versions.hold(self.versions)

    def applied(self, text: Sequence[str]) -> list[str]:
        """The lines of a snapshot, changed; OverrideError when they are not those that it speaks of."""
        changed, at = list(text), 0
        for sign, line in ((line[0], line[1:]) for line in self.lines):
            if sign != "+":
                if line not in changed[at:]:
                    raise OverrideError(
                        f"{self.where}: {self.snapshot}.txt has no line {line!r} there; "
                        "write lines that stand in it, in its order, or delete the entry"
                    )
                at = changed.index(line, at)
            if sign == "-":
                del changed[at]
                continue
            if sign == "+":
                changed.insert(at, line)
            at += 1
        return changed


def in_force(baseline: Path) -> list[Override]:
    """The overrides of one snapshot file that speak of the installed versions."""
    return [entry for entry in read(baseline.parent) if entry.snapshot == baseline.stem and entry.in_force()]


def read(folder: Path, known: Container[str] | None = None) -> list[Override]:
    """The overrides of a snapshot folder, held against their baselines; without a file there are none.

    `known` are the names of the adapter's snapshots, without their ending.
    """
    path = folder / FILE
    table = entries.table(path, OverrideError)
    raw = table.get("override", [])
    if set(table) - {"override"} or not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise OverrideError(f"{path}: write [[override]] with two brackets, one table per entry, and nothing else")
    found = [_entry(f"{path}, entry {number}", item, known) for number, item in enumerate(raw, 1)]
    _hold_against_baselines(folder, found)
    return found


def _hold_against_baselines(folder: Path, found: Iterable[Override]) -> None:
    together: dict[str, list[str]] = {}
    for entry in found:
        baseline = folder / f"{entry.snapshot}.txt"
        if not baseline.is_file():
            raise OverrideError(f"{entry.where}: there is no {baseline.name}; make it with --snapshot-update first")
        try:
            text = baseline.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise OverrideError(f"{entry.where}: {baseline.name} holds bytes that are no text; restore it") from None
        if entry.in_force():
            together[entry.snapshot] = entry.applied(together.get(entry.snapshot, text))
        else:
            entry.applied(text)


def _entry(where: str, item: Mapping[str, Any], known: Container[str] | None) -> Override:
    for name in item:
        if name not in FIELDS:
            raise OverrideError(f"{where}: unknown field {name!r}{nearest(name, FIELDS)}")
    for name in FIELDS:
        if not item.get(name):
            raise OverrideError(f"{where}: field {name!r} is missing; every entry says {', '.join(FIELDS)}")
    for name in ("snapshot", "because"):
        if not isinstance(item[name], str) or not item[name].strip():
            raise OverrideError(f"{where}: {name} is a text, got {item[name]!r}")
    if item["because"].strip().upper().startswith("TODO"):
        raise OverrideError(f"{where}: because = {item['because']!r} is no reason; say in one sentence why it differs")
    if complaint := versions.complaint(item["versions"]):
        raise OverrideError(f"{where}: {complaint}")
    for name in versions.missing(item["versions"]):
        raise OverrideError(f"{where}: versions names {name!r}, which is not installed; name what the difference is of")
    if known is not None and item["snapshot"] not in known:
        raise OverrideError(f"{where}: the adapter has no snapshot {item['snapshot']!r}; name a file without its .txt")
    lines = item["lines"]
    if not isinstance(lines, list) or not all(isinstance(line, str) and line[:1] in ("-", "+", " ") for line in lines):
        raise OverrideError(f"{where}: lines is a list of texts that start with '-', '+' or a blank, got {lines!r}")
    return Override(item["snapshot"], tuple(item["versions"]), item["because"], tuple(lines), where)
