"""docs/findings.md, made of ledgers, runs and reproductions: `python -m conformance.findings [--check] [NAME ...]`.

Judging every adapter takes minutes. With names only these are judged, and of the others the page keeps what it says
they showed; with `--no-runs` none is, which will do where only words or templates have changed. With `--check` nothing
is written either, and the page must be what ledgers and templates make of its own figures.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import adapters, ledger
from .finding import Verdict
from .ledger import Entry
from .reproductions import NoReproduction, block, printed
from .requirement import Requirement, requirements
from .spec import AdapterSpec, places
from .verification import Report, verify

PAGE = Path("docs", "findings.md")
COMMAND = "python -m conformance.findings"
SHARED = "TransformerBridge, whichever adapter it carries"

HEAD = f"""\
# What the shipped adapters get wrong

Every finding that a ledger declares, found by running the suite on the bundled miniatures. This page is made by
`{COMMAND}` from the ledgers in `conformance/adapters/`, one run per adapter and the templates in
`conformance/reproductions/`.

Findings with one reason stand together, under the requirement that is not met. *Where* is a hook, a field, an
argument or a call, `{{layer}}` any layer; *in* are the layouts in which it is found, which are ways to call the model;
*got* and *want* are of the first such finding of the run; *off by* is the largest deviation, in units of the tensor.
Below are lines that show it to whoever runs them as a file, with this package installed, and what they print.
"""
TABLE = "| where | in | finding | got | want | off by |\n|---|---|---|---|---|---|"


TIMED = tuple(f"throughput/{kind}ratio" for kind in ("", "hook-", "cache-", "filter-", "backward-", "denoising-"))
"""Requirements that a busy machine alone can fail; a run elsewhere says more."""


class NotTrue(Exception):
    """A run that a ledger does not explain: what is missing on the page would go unsaid."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run showed of an entry: the first finding it declares, and the largest deviation."""

    got: str = "`not seen`"
    want: str = ""
    size: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One ledger: its title, what it is about, its entries, and the adapter on which they are shown."""

    title: str
    about: str
    spec: AdapterSpec
    entries: Sequence[Entry]


@dataclass(slots=True)
class Evidence:
    """What runs and reproductions showed, by title and entry, and by code: all of the page that the ledgers lack."""

    rows: dict[tuple[str, Entry], Seen] = field(default_factory=dict)
    prints: dict[str, str] = field(default_factory=dict)


def sections(specs: Iterable[AdapterSpec], known: Mapping[str, Requirement]) -> Iterator[Section]:
    """The shared ledger, then one section per spec that declares something, by name."""
    ordered = sorted(specs, key=lambda spec: spec.name)
    own = {spec.name: ledger.read(spec.ledger, known, spec) for spec in ordered}
    # Shown on one that boots.
    plain = [s for s in ordered if s.plain and not any(e.requirement == "loading/boots" for e in own[s.name])]
    if plain:
        about = f"Every adapter that boots in a plain `TransformerBridge` has these; {plain[0].name} shows them here."
        yield Section(SHARED, about, plain[0], ledger.read(ledger.SHARED, known, plain[0]))
    for spec in ordered:
        if own[spec.name]:
            about = (sys.modules[spec.module].__doc__ or "").strip().splitlines()[0]
            yield Section(spec.name, about, spec, own[spec.name])


def page(found: Sequence[Section], known: Mapping[str, Requirement], evidence: Evidence) -> str:
    """The text of the page."""
    parts = [HEAD, *_contents(found)]
    for section in found:
        ids = [id for id in known if any(entry.requirement == id for entry in section.entries)]
        parts.append(f"\n## {section.title}\n\n{section.about}\n")
        for id in ids:
            parts.append("\n".join(_requirement(section, known[id], evidence)))
    return "\n".join(parts)


def _contents(found: Iterable[Section]) -> Iterator[str]:
    """How much each section holds."""
    yield "| | entries of the ledger | reasons | requirements not met |\n|---|---|---|---|"
    for section in found:
        anchor = re.sub(r"[^\w -]", "", section.title.lower()).replace(" ", "-")
        reasons = {(entry.requirement, entry.finding, entry.because) for entry in section.entries}
        unmet = {entry.requirement for entry in section.entries}
        yield f"| [{section.title}](#{anchor}) | {len(section.entries)} | {len(reasons)} | {len(unmet)} |"
    yield ""


def _requirement(section: Section, required: Requirement, evidence: Evidence) -> Iterator[str]:
    anchor = required.id.replace("/", "")
    yield f"### [{required.id}](../CONTRACT.md#{anchor})\n"
    yield f"*{required.sentence}*\n"
    for entries in groups(section.entries, required.id):
        yield f"{_sentence(entries[0].because)}{_aside(entries[0])}\n"
        yield TABLE
        for entry in entries:
            seen = evidence.rows.get((section.title, entry), Seen())
            cells = (f"`{entry.at}`", _layouts(entry, required), entry.finding, seen.got, seen.want, seen.size)
            yield f"| {' | '.join(cells)} |"
        if not entries[0].in_range():
            yield ""
            continue
        code = block(section.spec, entries)
        yield f"\n```python\n{code}```\n\nprints\n\n```text\n{evidence.prints.get(code, '')}```\n"


def groups(entries: Iterable[Entry], id: str) -> Iterator[tuple[Entry, ...]]:
    """The entries of one requirement that have one finding and one reason, in the order of the ledger."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.requirement == id:
            found.setdefault((entry.finding, entry.because), []).append(entry)
    return map(tuple, found.values())


def _sentence(because: str) -> str:
    """A reason as a sentence; what is a name in code stays as it is."""
    first = because.partition(" ")[0].rstrip(",;:")
    return f"{because[:1].upper() if first.isalpha() else because[:1]}{because[1:].rstrip('.')}."


def _aside(entry: Entry) -> str:
    """Where it was reported, and of which versions it is true."""
    parts = [f"Only with {', '.join(entry.versions)}."] if entry.versions else []
    parts += [f"Reported: <{entry.issue}>."] if entry.issue else []
    return "".join(f" {part}" for part in parts)


def _layouts(entry: Entry, required: Requirement) -> str:
    if not required.per_layout:
        return "-"
    return ", ".join(entry.layouts) or "every layout"


def observe(section: Section, report: Report) -> Iterator[tuple[tuple[str, Entry], Seen]]:
    """What a run showed of every entry of a section."""
    layers = report.adapter["sizes"].get("layers", 0)
    for entry in section.entries:
        at = frozenset(places(entry.at, layers))
        found = [
            finding
            for result in report.results
            if result.requirement == entry.requirement and (not entry.layouts or result.layout in entry.layouts)
            for finding in result.evidence.get("declared", [])
            if finding["at"] in at and finding["code"] == entry.finding
        ]
        if found:
            first = found[0]
            case = f" ({_cell(first['case'])})" if "case" in first else ""
            size = max((f["size"] for f in found if "size" in f), key=float, default="")
            yield (section.title, entry), Seen(_code(first["got"]) + case, _code(first["want"]), size)


def judged(spec: AdapterSpec) -> Report:
    """A run of one adapter; NotTrue where its ledger does not explain what is found."""
    report = verify(spec.name)
    for result in report.results:
        if result.verdict in (Verdict.FAIL, Verdict.ERROR) and result.requirement not in TIMED:
            told = "; ".join(f"{f['at']}: {f['code']}" for f in result.evidence.get("findings", [])[:3])
            where = f" in {result.layout}" if result.layout else ""
            raise NotTrue(f"{spec.name}: {result.requirement}{where} is {result.verdict} ({told}); declare or mend it")
    return report


def _cell(text: str) -> str:
    """Text in a table, and in one line."""
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{_cell(text.replace('`', chr(39)))}`"


BLOCK = re.compile(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", flags=re.DOTALL)
ROW = re.compile(r"\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| (.*?) ?\| (`.*`|) ?\| ([^|]*?) ?\|")


def read(text: str, found: Iterable[Section], known: Mapping[str, Requirement]) -> Evidence:
    """What a page says that runs and reproductions showed."""
    rows: dict[tuple[str, ...], Seen] = {}
    title = id = ""
    for line in text.splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
        elif heading := re.match(r"### \[([^]]+)\]", line):
            id = heading[1]
        elif row := ROW.fullmatch(line):
            rows[(title, id, *row.groups()[:3])] = Seen(*row.groups()[3:])
    evidence = Evidence(prints=dict(BLOCK.findall(text)))
    for section in found:
        for entry in section.entries:
            layouts = _layouts(entry, known[entry.requirement])
            if seen := rows.get((section.title, entry.requirement, entry.at, layouts, entry.finding)):
                evidence.rows[section.title, entry] = seen
    return evidence


NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")


def alike(one: str, other: str) -> bool:
    """Whether two outputs say the same: the same words, and numbers with a point of the same order of magnitude."""
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    pairs = zip(map(float, NUMBER.findall(one)), map(float, NUMBER.findall(other)), strict=True)
    return all(a == b or (a * b > 0 and abs(math.log10(a / b)) < 0.5) for a, b in pairs)


def drift(text: str, specs: Iterable[AdapterSpec]) -> Iterator[str]:
    """One line per way in which a page is not what the ledgers make of its own figures."""
    known = requirements()
    found = list(sections(specs, known))
    evidence = read(text, found, known)
    for section in found:
        for entry in section.entries:
            if (section.title, entry) not in evidence.rows:
                yield f"{PAGE}: {section.title}: {entry.requirement} at {entry.at} is missing; run `{COMMAND}`"
    want = Counter(page(found, known, evidence).splitlines())
    for line in Counter(text.splitlines()) - want:
        yield f"{PAGE}: no ledger and no template says {line[:80]!r}; run `{COMMAND}`"
    if text != page(found, known, evidence):
        yield f"{PAGE}: not what the ledgers say; run `{COMMAND}`"


def renewed(old: str, specs: Sequence[AdapterSpec], name: str, *, judge: bool = True) -> str:
    """The page with one adapter judged anew, if at all, and everything run that shows what it gets wrong."""
    known = requirements()
    found = list(sections(specs, known))
    evidence = read(old, found, known)
    mine = [section for section in found if section.spec.name == name]
    if mine and judge:
        report = judged(mine[0].spec)
        for section in mine:
            evidence.rows.update(observe(section, report))
    for section in mine:
        for id in known:
            # What is declared for other versions shows nothing with these.
            here = (entries for entries in groups(section.entries, id) if entries[0].in_range())
            for code in (block(section.spec, entries) for entries in here):
                output = printed(code)
                # What differs by rounding alone stays as it was, so that a diff shows what changed.
                if not alike(evidence.prints.get(code, ""), output):
                    evidence.prints[code] = output
    return page(found, known, evidence)


def main(arguments: list[str] | None = None) -> int:
    """Write the page into the current folder's docs, or with `--check` say how it differs (exit status 1)."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="judge and write nothing, fail when the page differs")
    parser.add_argument("--no-runs", action="store_true", help="judge nothing: what runs showed stays as it is")
    parser.add_argument("names", nargs="*", metavar="NAME", help="judge only these adapters anew")
    given = parser.parse_args(arguments)
    specs = adapters.resolve(["all"])
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if given.check:
        lines = list(drift(old, specs))
        print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
        return 1 if lines else 0
    status = 0
    for spec in adapters.resolve(given.names) if given.names else specs:
        print(f"{COMMAND}: {spec.name}", file=sys.stderr)
        try:
            old = renewed(old, specs, spec.name, judge=not given.no_runs)
        except (NotTrue, NoReproduction) as error:
            print(f"{COMMAND}: {error}", file=sys.stderr)
            status = 1
        else:
            PAGE.write_text(old, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
