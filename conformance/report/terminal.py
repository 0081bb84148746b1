"""The verdict on one screen: what first went wrong, a row per family, what is declared, one closing line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..finding import MET
from ..requirement import FAMILIES
from ..spec import pattern_of, printable
from . import proof
from .badge import counts, label

if TYPE_CHECKING:
    import pytest

    from .document import Document

MOST = 8
"""Findings and cases shown; the rest is counted, and is in the report whole."""

WIDTH = 80


def show(out: pytest.TerminalReporter, document: Document, written: Sequence[object]) -> None:
    """Print the summary of a run to pytest's terminal; `written` are the files that hold more."""
    state = document["verdicts"]["state"]
    for adapter in document["verdicts"]["adapters"]:
        conforms = adapter["summary"]["conforms"]
        colour = "red" if state == "INCOMPLETE" else {True: "green", False: "red", None: "yellow"}[conforms]
        out.section(_title(adapter), blue=True)
        for line in lines(adapter, verbose=out.verbosity > 0):
            out.line(line)
        for line in folded(closing(adapter, state), indent=4):
            out.line(line, **{colour: True, "bold": True})
    for path in written:
        out.line(f"written: {printable(str(path))}")


def plain(document: Document, verbose: bool = False) -> Iterator[str]:
    """The same summary as lines, without colours."""
    for adapter in document["verdicts"]["adapters"]:
        yield section(_title(adapter))
        yield from lines(adapter, verbose)
        yield from folded(closing(adapter, document["verdicts"]["state"]), indent=4)


def section(title: str) -> str:
    """A line that parts what is above from what is below, as pytest draws it."""
    return f" {title} ".center(WIDTH, "=")


def _title(adapter: Mapping[str, Any]) -> str:
    return f"conformance of {adapter['adapter']}"


def lines(adapter: Mapping[str, Any], verbose: bool = False) -> Iterator[str]:
    """Everything but the closing line."""
    yield from unmet(adapter["results"])
    yield from _blocking(adapter["results"])
    sizes = ", ".join(f"{name} {value}" for name, value in adapter["sizes"].items())
    yield from folded(f"model     {adapter['model']['label']} ({sizes})", indent=10)
    yield from _hooks(adapter["coverage"])
    yield from _table(adapter["results"])
    yield from _declared(adapter["results"], verbose)
    yield from _left_out(adapter["left_out"])
    if "mutants" in adapter:
        for line in proof.lines(adapter, verbose):
            yield from folded(line, indent=4)


def closing(adapter: Mapping[str, Any], state: str) -> str:
    """`bd3lm (miniature): 41/41 MUST · 3 refused · 2 deviations · CONFORMS`."""
    summary = adapter["summary"]
    said = f"{counts(summary)} · {word(summary['conforms'], state)}"
    return f"{label(adapter['adapter'], adapter['model'])}: {said}"


def word(conforms: bool | None, state: str) -> str:
    """What a run says of an adapter, whole or not."""
    return {True: "CONFORMS", False: "DOES NOT CONFORM", None: f"{state}, no verdict"}[conforms]


def unmet(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Where it first goes wrong, and the first findings; nothing where every requirement is met or declared."""
    failed = [result for result in results if result["verdict"] in ("FAIL", "ERROR")]
    if not failed:
        return
    for result in failed:
        divergence = result.get("facts", {}).get("divergence")
        if divergence:
            yield from folded(f"first divergence ({result['layout']}): {divergence}", indent=4)
            break
    for result in failed[:MOST]:
        yield from folded(told(result), indent=4)
    if len(failed) > MOST:
        yield f"and {len(failed) - MOST} more that are not met"
    yield ""


def told(result: Mapping[str, Any]) -> str:
    """`FAIL mask/relation [train]: ...`: the first finding, and how many there are besides."""
    findings = result.get("findings", [])
    what = evidence(findings[0]) if findings else result.get("cause", "")
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return f"{result['verdict']} {_name(result)}: {what}{more}"


def _blocking(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The declared findings on which everything that is blocked would have to rest."""
    causes = {result["cause"].partition(" ")[0] for result in results if result["verdict"] == "BLOCKED"}
    for result in results:
        if result["requirement"] in causes and result.get("declared"):
            yield from folded(f"DECLARED {_name(result)}: {evidence(result['declared'][0])}", indent=4)
            causes.remove(result["requirement"])
            yield ""


def _hooks(coverage: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """`hooks     98/98 in train: 91 proven, 4 wrong, 0 dead, 3 refused, 0 unknown`, aliases counted."""
    for number, (layout, found) in enumerate(coverage.items()):
        counts = {fate: len(found[fate]) for fate in ("wrong", "dead", "refused", "unknown")}
        known = found["advertised"] - counts["unknown"]
        fates = ", ".join([f"{found['proven']} proven", *(f"{count} {fate}" for fate, count in counts.items())])
        yield f"{'' if number else 'hooks':<10}{known}/{found['advertised']} in {layout}: {fates}"


def _table(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{'family':<14}{'met':>7}{'deviating':>11}{'refused':>9}{'blocked':>9}{'not met':>9}"
    for family in FAMILIES:
        mine = [result["verdict"] for result in results if result["requirement"].startswith(f"{family}/")]
        if not mine:
            continue
        unmet = mine.count("FAIL") + mine.count("ERROR")
        cells = (mine.count("DEVIATION"), mine.count("REFUSED"), mine.count("BLOCKED"), unmet)
        met = f"{sum(verdict in MET for verdict in mine)}/{len(mine)}"
        yield f"{family:<14}{met:>7}" + "".join(
            f"{cell or '-':>{width}}" for cell, width in zip(cells, (11, 9, 9, 9), strict=True)
        )


def _declared(results: Sequence[Mapping[str, Any]], verbose: bool) -> Iterator[str]:
    """Requirements by family; with `-v` every place and reason."""
    places: dict[str, dict[str, str]] = {}
    unproven: set[tuple[str | None, str]] = set()
    for result in results:
        for finding in result.get("declared", []):
            places.setdefault(result["requirement"], {})[pattern_of(finding["at"])] = finding["because"]
        unproven |= {(result.get("layout"), place) for place in result.get("unproven", [])}
    if places:
        yield "declared deviations" + ("" if verbose else "; -v gives places and reasons")
    if not verbose:
        for family in FAMILIES:
            names = ", ".join(id.partition("/")[2] for id in places if id.startswith(f"{family}/"))
            yield from folded(f"  {family:<14}{names}", indent=16) if names else ()
        places.clear()
    for requirement, where in places.items():
        yield f"  {requirement}"
        for place, why in where.items():
            yield from folded(f"    {place}: {why}", indent=6)
    if unproven:
        yield f"unproven, because something they need is wrong there: {len(unproven)} places"


def _left_out(asked_by: Mapping[str, str]) -> Iterator[str]:
    """One line per option that would have had more judged."""
    for option in dict.fromkeys(asked_by.values()):
        ids = (id for id, needed in asked_by.items() if needed == option)
        yield from folded(f"judged only with {option}: {', '.join(ids)}", indent=2)


def _name(result: Mapping[str, Any]) -> str:
    return f"{result['requirement']} [{result['layout']}]" if "layout" in result else str(result["requirement"])


def evidence(finding: Mapping[str, Any]) -> str:
    """A finding in one line, as `Finding.line` has it."""
    case = f" ({finding['case']})" if "case" in finding else ""
    size = f" (off by {finding['size']}, allowed {finding.get('allowed', '0')})" if "size" in finding else ""
    return f"{finding['at']}{case}: {finding['code']}: got {finding['got']}, want {finding['want']}{size}"


def folded(text: str, indent: int) -> list[str]:
    """A line cut into several where it is too long, those after the first indented; what is no character is escaped."""
    text = printable(re.sub(r"\s", " ", text))
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
