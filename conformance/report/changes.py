"""What changed between two reports of one adapter: pure data, compared as renderers and the gate read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..finding import MET, Verdict
from . import coverage as hooks
from . import pace, trees
from .details import Detail, details
from .work import Count, counts

if TYPE_CHECKING:
    from .document import Document

PROVEN = frozenset({Verdict.PASS, Verdict.DEVIATION})
"""Verdicts of a requirement that something answers to; REFUSED is met by not having it."""

Place = tuple[str, str | None]
"""A requirement, and the layout in which it is judged, if any."""

Pair = tuple[str, str | None, str | None]
"""A name, and what stood for it before and after; None where it was not there."""

Results = Mapping[Place, Mapping[str, Any]]
"""What came of each."""

Adapter = Mapping[str, Any]
"""The part of a report that is about one adapter."""


@dataclass(frozen=True, slots=True)
class Run:
    """One of the two runs, as a whole; `conforms` is None without a verdict."""

    state: str
    contract: str
    versions: Mapping[str, str]
    conforms: bool | None
    counts: str
    divergence: str = ""

    @property
    def whole(self) -> bool:
        """Whether every expected case was judged."""
        return self.state == "COMPLETE"


@dataclass(frozen=True, slots=True)
class Moved:
    """A verdict that is another; None where it was not judged on that side."""

    requirement: str
    layout: str | None
    level: str
    base: str | None
    head: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """One finding with the place it was told at; `because` is the ledger's reason where it is declared."""

    requirement: str
    layout: str | None
    level: str
    code: str
    at: str
    case: str
    got: str
    want: str
    detail: str = ""
    because: str = ""

    @property
    def key(self) -> tuple[str, str | None, str, str, str]:
        """What makes it the same finding in both runs; what was got may differ."""
        return self.requirement, self.layout, self.code, self.at, self.case


@dataclass(frozen=True, slots=True)
class Lost:
    """A requirement that was met at base, and at head is `missing`, `left out`, REFUSED or has an unmet verdict."""

    requirement: str
    layout: str | None
    level: str
    base: str
    head: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Fate:
    """A mutant that came to another end; None where it was not put in on that side."""

    mutant: str
    base: str | None
    head: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that differs between base and head, each part in the order of head's report.

    `known` are base's undeclared findings, `new` those that it did not have, `altered` those of the same kind and place
    with another value or text, `gone` those that head has no more, declared or not; `declared` are deviations that
    only head's ledger declares, `withdrawn` those that only base's did. `tree` are lines of the hook tree that went
    and came, by layout; `model` is what was judged, where that is another; `speed` what both measured, and no change.
    """

    adapter: str
    base: Run | None
    head: Run | None
    verdicts: tuple[Moved, ...] = ()
    known: tuple[Told, ...] = ()
    new: tuple[Told, ...] = ()
    altered: tuple[Told, ...] = ()
    gone: tuple[Told, ...] = ()
    declared: tuple[Told, ...] = ()
    withdrawn: tuple[Told, ...] = ()
    lost: tuple[Lost, ...] = ()
    coverage: tuple[hooks.Coverage, ...] = ()
    tree: Mapping[str, Sequence[str]] = field(default_factory=dict)
    counts: tuple[Count, ...] = ()
    details: tuple[Detail, ...] = ()
    mutants: tuple[Fate, ...] = ()
    versions: tuple[Pair, ...] = ()
    model: tuple[Pair, ...] = ()
    speed: tuple[pace.Pace, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything differs."""
        parts = (self.verdicts, self.new, self.altered, self.gone, self.declared, self.withdrawn, self.lost)
        others = (self.coverage, self.tree, self.counts, self.details, self.mutants, self.versions, self.model)
        return any(parts) or any(others) or self.base != self.head


def compare(base: Document | None, head: Document | None, adapter: str = "") -> Changes:
    """What changed from one report to the other, each of the one adapter that it holds; None where there is no report.

    An adapter that is new has nothing to lose, and all its findings are new.
    """
    before, after = _only(base), _only(head)
    name = adapter or str((after or before)["adapter"])
    both = Changes(name, _run(base, before), _run(head, after))
    if head is None:
        return both
    old, new = _results(before), _results(after)
    findings = _findings(old, new)
    told = {each.key[:2] for part, those in findings.items() if part != "known" for each in those}
    return replace(
        both,
        **findings,
        verdicts=tuple(_moved(old, new)) if base else (),
        lost=tuple(_lost(old, new, after["left_out"])),
        **(_against(base, before, head, after, told) if base else {}),
    )


def _findings(old: Results, new: Results) -> dict[str, Any]:
    found, was = _told(new, "findings"), _told(old, "findings")
    declared, stood = _told(new, "declared"), _told(old, "declared")
    return {
        "known": tuple(was.values()),
        "new": tuple(told for key, told in found.items() if key not in was),
        "altered": tuple(told for key, told in found.items() if key in was and told != was[key]),
        "gone": tuple(told for key, told in {**was, **stood}.items() if key not in found and key not in declared),
        "declared": tuple(told for key, told in declared.items() if key not in stood),
        "withdrawn": tuple(told for key, told in stood.items() if key not in declared),
    }


def _against(base: Document, before: Adapter, head: Document, after: Adapter, told: Set[Place]) -> dict[str, Any]:
    """What only two reports can tell: all but findings, of which those are `told`, and verdicts."""
    old, new = _results(before), _results(after)
    tree = {layout: lines for layout, lines in trees.changed(before, after).items() if lines}
    counted = tuple(counts(old, new))
    shown = {(count.requirement, count.layout) for count in counted} | {(trees.TREE, layout) for layout in tree}
    return {
        "coverage": tuple(hooks.moved(before, after)),
        "tree": tree,
        "counts": counted,
        "details": tuple(details(old, new, told, shown)),
        "mutants": tuple(_fates(before, after)),
        "versions": tuple(versions(base, head)),
        "model": tuple(_pairs(_model(before), _model(after))),
        "speed": tuple(pace.compared(base, before, head, after)),
    }


def _only(document: Document | None) -> dict[str, Any]:
    if document is None:
        return {}
    (adapter,) = document["verdicts"]["adapters"]
    return dict(adapter)


def _run(document: Document | None, adapter: Mapping[str, Any]) -> Run | None:
    if document is None:
        return None
    verdicts = document["verdicts"]
    told = (result.get("facts", {}).get("divergence") for result in adapter["results"])
    return Run(
        state=verdicts["state"],
        contract=verdicts["contract"],
        versions=verdicts["versions"],
        conforms=adapter["summary"]["conforms"],
        counts=adapter["badge"]["message"],
        divergence=next((str(place) for place in told if place), ""),
    )


def _results(adapter: Mapping[str, Any]) -> dict[Place, Mapping[str, Any]]:
    return {(result["requirement"], result.get("layout")): result for result in adapter.get("results", ())}


def _told(results: Results, part: str) -> dict[tuple[str, str | None, str, str, str], Told]:
    """Findings or declarations by key; one of the same key is told once."""
    each = (
        Told(
            requirement=requirement,
            layout=layout,
            level=result["level"],
            code=finding["code"],
            at=finding["at"],
            case=finding.get("case", ""),
            got=finding["got"],
            want=finding["want"],
            detail=finding.get("detail", ""),
            because=finding.get("because", ""),
        )
        for (requirement, layout), result in results.items()
        for finding in result.get(part, ())
    )
    return {told.key: told for told in each}


def _moved(old: Results, new: Results) -> Iterator[Moved]:
    for place in dict.fromkeys((*new, *old)):
        before, after = old.get(place, {}), new.get(place, {})
        if before.get("verdict") != after.get("verdict"):
            level = (after or before)["level"]
            yield Moved(*place, level=level, base=before.get("verdict"), head=after.get("verdict"))


def _lost(old: Results, new: Results, left_out: Mapping[str, str]) -> Iterator[Lost]:
    """What was met and is not, or is met only by declining what was there."""
    for place, result in old.items():
        base, after = result["verdict"], new.get(place)
        if base not in MET:
            continue
        if after is None:
            head = "left out" if place[0] in left_out else "missing"
            yield Lost(*place, level=result["level"], base=base, head=head)
        elif after["verdict"] not in MET or (after["verdict"] == Verdict.REFUSED and base in PROVEN):
            yield Lost(*place, result["level"], base, after["verdict"], cause=after.get("cause", ""))


def _fates(before: Adapter, after: Adapter) -> Iterator[Fate]:
    """Mutants, of two runs that both put some in."""
    if "mutants" in before and "mutants" in after:
        was, now = ({kill["mutant"]: str(kill["fate"]) for kill in side["mutants"]} for side in (before, after))
        yield from (Fate(*pair) for pair in _pairs(was, now))


def versions(base: Document, head: Document) -> Iterator[Pair]:
    """Versions that differ, that of the contract among them."""
    both = ({**each["verdicts"]["versions"], "contract": each["verdicts"]["contract"]} for each in (base, head))
    yield from _pairs(*both)


def _model(adapter: Adapter) -> dict[str, str | None]:
    """What was judged: name and digests of the model, its sizes, the layouts."""
    sizes = {name: str(size) for name, size in adapter.get("sizes", {}).items()}
    layouts = {"layouts": ", ".join(adapter["layouts"])} if "layouts" in adapter else {}
    model = adapter.get("model", {})
    return {**{name: model.get(name) for name in ("label", "code", "weights")}, **sizes, **layouts}


def _pairs(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> Iterator[Pair]:
    """What is another on either side, in the order of the second."""
    for name in dict.fromkeys((*after, *before)):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)
