"""Two reports, and what is another in the second: `conformance.diff(old, new)`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report import markdown, pace, reading, telling
from .report.changes import Changes, Pair, compare, versions
from .report.document import Document
from .report.telling import MARKDOWN, PLAIN, Sections
from .report.terminal import folded, section
from .report.worse import worse

if TYPE_CHECKING:
    from .verification import Report

MOST = 10
"""Lines shown of one kind of change, unless all are asked for."""


@dataclass(frozen=True)
class Difference:
    """What is another in `new`; both are whole reports, with the names under which they are told of."""

    old: Document
    new: Document
    names: tuple[str, str] = ("old", "new")

    @cached_property
    def changes(self) -> Mapping[str, Changes]:
        """For every adapter that both reports have, everything that differs, in the order of the new one."""
        before, after = reading.adapters(self.old), reading.adapters(self.new)
        return {
            name: compare(reading.alone(self.old, name), reading.alone(self.new, name), name)
            for name in after
            if name in before
        }

    @property
    def gone(self) -> tuple[str, ...]:
        """Adapters of the old report alone."""
        return tuple(name for name in reading.adapters(self.old) if name not in self.changes)

    @property
    def added(self) -> tuple[str, ...]:
        """Adapters of the new report alone."""
        return tuple(name for name in reading.adapters(self.new) if name not in self.changes)

    @property
    def versions(self) -> tuple[Pair, ...]:
        """Versions that differ, by name, before and after."""
        return tuple(versions(self.old, self.new))

    @cached_property
    def worse(self) -> tuple[str, ...]:
        """Everything that got worse, in one line each that begins with the adapter's name."""
        lost = (f"{name}: is not in {self.names[1]}" for name in self.gone)
        return (*lost, *(f"{name}: {one.text}" for name, each in self.changes.items() for one in worse(each)))

    def __bool__(self) -> bool:
        """Whether anything is another; what was measured always is, and does not count."""
        return bool(self.versions or self.gone or self.added or any(map(bool, self.changes.values())))

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, most: int | None = MOST) -> Iterator[str]:
        """For a terminal of 80 columns; `most` lines of every kind of change, None for all."""
        for line in self._heads():
            yield from folded(line, indent=8)
        for name, changes in self.changes.items():
            yield section(name)
            for line in self._runs(changes):
                yield from folded(line, indent=8)
            for title, told in self._sections(changes, PLAIN).items():
                yield title
                for line in told[:most]:
                    yield from folded(f"  {line}", indent=4)
                if most is not None and len(told) > most:
                    yield f"  and {len(told) - most} more; -v shows all"
        for line in (*self._alone(), self.closing()):
            yield from folded(line, indent=4)

    def markdown(self) -> str:
        """For a job summary: what is long is folded away."""
        heads = "\n".join(f"- {markdown.text(line)}" for line in self._heads())
        parts = [f"## {markdown.text(self.closing())}", heads]
        for name, changes in self.changes.items():
            parts += [f"### {markdown.code(name)}", "\n".join(f"- {markdown.text(t)}" for t in self._runs(changes))]
            for title, told in self._sections(changes, MARKDOWN).items():
                listed = "\n".join(f"- {line}" for line in told)
                if title == "hook tree":
                    listed = markdown.block("\n".join(told), "diff")
                many = len(told) > MOST or title == "hook tree"
                parts.append(markdown.folded(f"{title}: {len(told)}", listed) if many else f"**{title}**\n\n{listed}")
        parts += [markdown.text(line) for line in self._alone()]
        return "\n\n".join(parts) + "\n"

    def closing(self) -> str:
        """What it comes to, in one line."""
        if self.worse:
            return f"{len(self.worse)} thing{'s' if len(self.worse) > 1 else ''} got worse"
        return "changed, and nothing got worse" if self else "nothing changed"

    def _heads(self) -> Iterator[str]:
        for word, name, document in (("old", self.names[0], self.old), ("new", self.names[1], self.new)):
            state, count = document["verdicts"]["state"], len(document["verdicts"]["adapters"])
            yield f"{word:<8}{name}: {state}, {count} adapter{'s' if count > 1 else ''}"
        yield from (f"version {line}" for line in telling.pairs(self.versions, PLAIN))

    def _runs(self, changes: Changes) -> Iterator[str]:
        assert changes.base is not None
        assert changes.head is not None
        before, after = telling.run(changes.base), telling.run(changes.head)
        if not changes:
            yield f"nothing changed: {after}"
            return
        if before == after:
            yield f"as ever {after}"
        else:
            yield from (f"before  {before}", f"now     {after}")

    def _sections(self, changes: Changes, style: telling.Style) -> Sections:
        return {**telling.sections(changes, style), **self._measured(changes, style)}

    def _measured(self, changes: Changes, style: telling.Style) -> Sections:
        """Ratios of time, and seconds, which say nothing of the adapter."""
        took = [
            pace.seconds(document, reading.adapters(document)[changes.adapter]) for document in (self.old, self.new)
        ]
        seconds = [f"the run itself: {took[0]:.1f} s → {took[1]:.1f} s"] if all(took) else []
        told = [*telling.speed(changes, style), *seconds]
        return {"speed": told} if told else {}

    def _alone(self) -> Iterator[str]:
        yield from (f"{name}: only in {self.names[0]}" for name in self.gone)
        yield from (f"{name}: only in {self.names[1]}: {self._said(name)}" for name in self.added)

    def _said(self, name: str) -> str:
        new = compare(None, reading.alone(self.new, name), name)
        assert new.head is not None
        return telling.run(new.head)


def diff(
    old: Report | Document | str | os.PathLike[str], new: Report | Document | str | os.PathLike[str]
) -> Difference:
    """What is another in `new`: both are reports of `verify`, their documents, or files that --conform-report wrote.

    Raises:
        ReportError: a file that is no report of this version, in one line.
    """
    (first, before), (second, after) = _read(old, "old"), _read(new, "new")
    return Difference(before, after, (first, second))


def _read(given: Any, word: str) -> tuple[str, Document]:
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        return str(path), reading.read(path)
    return word, given if isinstance(given, dict) else given.document
