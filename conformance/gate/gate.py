"""The gate itself: what changed, whom it affects, what came of it at base and at head."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..report.changes import compare
from ..report.document import Document
from . import GateError
from .affected import affected
from .asked import Asked
from .imports import texts
from .repository import Revision
from .rules import Failure, Judgement
from .runs import Judged, Runner
from .speed import Speed, compared
from .tree import Tree

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Held:
    """A gate that was held: every adapter of head and base with what was found, and head's source files as text."""

    base: Revision
    head: Revision
    changed: tuple[str, ...]
    judgements: tuple[Judgement, ...]
    runs: Mapping[str, tuple[Judged | None, Judged]]
    """Base's and head's run of each adapter that was run."""
    sources: Mapping[str, Mapping[str, str]]
    """Of each adapter, the files at head that it rests on, its spec's first."""
    ledgers: Mapping[str, str] = field(default_factory=dict)
    """Head's ledgers by path."""
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Every reason to refuse the change."""
        return tuple(failure for judged in self.judgements for failure in judged.failures)


@dataclass(frozen=True, slots=True)
class Sides:
    """Both revisions, checked out, and by name the adapters of base and of head that the gate is about."""

    asked: Asked
    base: Tree
    head: Tree
    before: Mapping[str, str]
    after: Mapping[str, str]


def hold(asked: Asked, say: Say = lambda line: None) -> Held:
    """Judge the adapters that the change from base to head can affect, at both; GateError when it cannot be done."""
    changed = tuple(asked.repository.changed(asked.base, asked.head))
    with tempfile.TemporaryDirectory(prefix="conformance-gate-") as scratch:
        folder = Path(scratch).resolve()
        base, head = (
            Tree(asked.repository.copy(revision, folder / side), side)
            for side, revision in (("base", asked.base), ("head", asked.head))
        )
        before, after = wanted(base, head, asked.adapters)
        sides = Sides(asked, base, head, before, after)
        why = _reasons(sides, changed)
        for name in after:
            say(f"{name}: {'runs, because of ' + why[name] if name in why else 'not affected'}")
        (folder / "work").mkdir()
        with Runner(folder / "work", asked.trust, asked.cache) as runner:
            runs = _run(runner, sides, why, say)
            judgements = [
                *(_vanished(name, path) for name, path in before.items() if name not in after),
                *(
                    _judgement(runner, sides, name, why[name], runs[name], say)
                    if name in runs
                    else Judgement(name, after[name])
                    for name in after
                ),
            ]
        sources = {name: texts(head, path.partition(":")[0]) for name, path in after.items()}
        ledgers = {head.relative(path): head.text(path) for path in head.root.rglob("*.deviations.toml")}
    return Held(asked.base, asked.head, changed, tuple(judgements), runs, sources, ledgers, asked.notes)


def wanted(base: Tree, head: Tree, asked: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The adapters of base and of head by name, all or those asked for by name or as `module:SPEC`."""
    known = {**base.adapters, **head.adapters}
    if not asked:
        if not known:
            raise GateError(
                'neither revision has adapters: [project.entry-points."conformance.adapters"] of pyproject.toml is '
                "empty; write them there, or name one with --adapter module:SPEC"
            )
        return base.adapters, head.adapters
    sides: list[dict[str, str]] = []
    for tree in (base, head):
        named = {name: tree.adapters[name] for name in asked if name in tree.adapters}
        sides.append({**named, **{path: path for path in asked if ":" in path and tree.has(path)}})
    for name in asked:
        if not any(name in side for side in sides):
            there = f", which has {', '.join(known)}" if known else ""
            raise GateError(
                f"--adapter {name}: is no adapter of this repository{there}; name one, or module:SPEC of a file in it"
            )
    return sides[0], sides[1]


def _reasons(sides: Sides, changed: Sequence[str]) -> dict[str, str]:
    """Why each adapter of head is run."""
    told = affected(sides.base, sides.head, changed, sides.after)
    new = {name: "no such adapter at base" for name in sides.after if name not in sides.before}
    return {name: told.get(name) or new[name] for name in sides.after if name in told or name in new}


def _run(runner: Runner, sides: Sides, names: Iterable[str], say: Say) -> dict[str, tuple[Judged | None, Judged]]:
    asked, before = sides.asked, sides.before
    waiting: dict[str, tuple[Future[Judged] | None, Future[Judged]]] = {}
    for name in names:
        at_head = runner.submit(sides.head, asked.head.tree, sides.after[name])
        at_base = runner.submit(sides.base, asked.base.tree, before[name]) if name in before else None
        waiting[name] = (at_base, at_head)
    runs = {}
    for name, (at_base, at_head) in waiting.items():
        runs[name] = (at_base.result() if at_base else None, at_head.result())
        say(f"{name}: judged")
    return runs


def _judgement(
    runner: Runner, sides: Sides, name: str, why: str, runs: tuple[Judged | None, Judged], say: Say
) -> Judgement:
    at_base, at_head = runs
    base_document, unlike = _comparable(at_base)
    judged = Judgement(
        name,
        sides.after[name],
        why=why,
        changes=None if at_head.document is None else compare(base_document, at_head.document, name),
        cannot=at_head.cannot,
        base_cannot=unlike,
    )
    if base_document is None or at_head.document is None:
        return judged
    if judged.failures or not sides.asked.timed:
        reason = "the change fails without it" if judged.failures else "not asked for"
        return replace(judged, speed=Speed({}, unmeasured=reason))
    say(f"{name}: timed against base")
    adapters = sides.before[name], sides.after[name]
    return replace(judged, speed=compared(runner, sides.base, sides.head, adapters, runner.folder))


def _comparable(judged: Judged | None) -> tuple[Document | None, str]:
    """Base's report, if it is whole, else why there is nothing to compare with."""
    if judged is None or judged.document is None:
        return None, judged.cannot if judged else ""
    state = judged.document["verdicts"]["state"]
    return (judged.document, "") if state == "COMPLETE" else (None, f"the run is {state}")


def _vanished(name: str, path: str) -> Judgement:
    return Judgement(name, path, why="it is gone", vanished=True)
