"""docs/kill-matrix.md, made from reports of `pytest --mutants`: `python ci/kill_matrix.py REPORT... [--check]`.

A row for every mutant, a column for every adapter, and what TransformerLens's own verifier said of the same mutants
(docs/incumbent.json, made by ci/incumbent.py). With `--check` the page must have the columns of these reports as they
are, and every mutant of the code; nothing is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.mutants import Mutant, mutants
from conformance.report import proof
from conformance.requirement import FAMILIES

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, INCUMBENT = DOCS / "kill-matrix.md", DOCS / "incumbent.json"

HEAD = """\
# Kill matrix

A green run means something once it is shown that the suite would have noticed. Here {count} known defects were put into
good adapters, one at a time, each in a boot of its own; every requirement of the family was judged, once with the
requirement that is declared for the defect and once as if it had never been written.

Made by `nox -s mutants`; the list in `conformance/mutants/` is the list here. `pytest --adapter NAME --mutants
--complete` gives the column of any other adapter.

- **killed**: the declared requirement noticed it, and nobody else in its family would have. What follows a plus sign
  would have noticed it, too.
- *forestalled*: something that the declared requirement needs has found the same place wrong already.
- *no place*: the adapter has nothing for the defect to sit in, such as a sampler. *moot*: it does not meet that
  requirement as it is, by its ledger or because it refuses. *equivalent*: nothing can be noticed, and
  `NAME.equivalents.toml` proves it.
- The last columns are TransformerLens {lens}'s own verifier (`transformer_lens.benchmarks`, phases 1 to 3) on the same
  defects, with every help that it needs to run at all (`ci/incumbent_suite.py` lists them): **noticed** when a result
  fails that does not fail on the good adapter, *broke* when the verifier itself crashed.
"""

SUITE = {
    "the reference shares weights, a mask or a class with the subject": "mutants of `loading/independence`",
    "no requirement is left": "`test_session.py::test_a_run_in_which_no_case_is_left_has_judged_nothing`",
    "a requirement is skipped": "`test_session.py::test_a_skip_is_not_a_pass`",
    "everything is declined": "`test_session.py::test_declining_what_is_there_is_red`",
    "budgets are a thousand times as wide": "`test_budgets.py::test_the_weakest_defect_lies_ten_budgets_off`",
    "a worker is lost": "`test_session.py::test_a_worker_that_is_lost_is_red`",
    "a report is cut short or altered": "`test_joining.py::test_a_broken_file_is_refused`",
    "a ledger has a typo": "`test_bad_ledgers.py::test_ledgers_that_cannot_be_trusted`",
    "an entry of a ledger is no longer true": "`test_judge.py::test_an_entry_that_no_longer_holds_is_red`",
    "no mutant is collected": "`test_mutants.py::test_no_mutants_at_all_are_red`",
    "a mutant survives": "`test_mutants.py::test_a_survivor_is_red`",
    "a mutant is noticed by a hair": "`test_mutants.py::test_one_that_is_close_to_a_budget_proves_little`",
}
"""Defects of the suite itself, each with what notices it in `tests/`."""

Kills = dict[str, dict[str, Any]]
"""What became of mutants, by id."""

FATES = ("KILLED", "SURVIVED", "FORESTALLED", "EQUIVALENT", "MOOT", "NO PLACE")
"""Columns of the summary."""

PLACED = ("KILLED", "SURVIVED", "FORESTALLED", "ERROR")
"""Fates of defects that could be noticed."""

SHORT = {"KILLED": "**killed**", "SURVIVED": "SURVIVED", "ERROR": "ERROR"}


def page(columns: Mapping[str, Kills], incumbent: Mapping[str, Any]) -> str:
    known = mutants()
    head = HEAD.format(count=len(known), lens=incumbent["transformer-lens"])
    parts = [head, *summary(columns, incumbent["adapters"]), *suite()]
    for family in FAMILIES:
        mine = [mutant for mutant in known.values() if mutant.id.startswith(f"{family}/")]
        parts += [f"\n## {family}\n", *table(mine, columns, incumbent["adapters"])]
    return "\n".join(parts) + "\n"


def summary(columns: Mapping[str, Kills], incumbent: Mapping[str, Any]) -> Iterator[str]:
    """Counts, by adapter; what the suite and the incumbent notice of the defects that both could be shown."""
    yield "| adapter | killed | survived | forestalled | equivalent | moot | no place | requirements proven | idle |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, kills in columns.items():
        proven = proof.summary(list(kills.values()))
        counts = [proven["fates"].get(fate, 0) for fate in FATES] + [proven["proven"], len(proven["idle"])]
        yield f"| `{name}` | {' | '.join(map(str, counts))} |"
    killed = [kill for kills in columns.values() for kill in kills.values() if kill["fate"] == "KILLED"]
    alone = {kill["kills"] for kill in killed if "without" not in kill}
    yield f"\nIn one adapter or another {len(alone)} of {len({m.kills for m in mutants().values()})} requirements"
    yield "noticed what the rest of their family lets pass; *idle* are those that did not in this adapter.\n"
    yield "| defects with a place in | noticed by this suite | by TransformerLens's verifier | which broke on |"
    yield "|---|---|---|---|"
    for name, told in incumbent.items():
        kills = columns.get(name, {})
        placed = [id for id, kill in kills.items() if kill["fate"] in PLACED]
        theirs = Counter(told["mutants"][id]["verdict"] for id in placed)
        ours = sum(kills[id]["fate"] == "KILLED" for id in placed)
        yield f"| `{name}`: {len(placed)} | {ours} | {theirs['noticed']} | {theirs['broke']} |"


def suite() -> Iterator[str]:
    """What guards the suite itself."""
    yield "\n| defect of the suite itself | noticed by |"
    yield "|---|---|"
    yield from (f"| {defect} | {guard} |" for defect, guard in SUITE.items())


def table(mine: Sequence[Mutant], columns: Mapping[str, Kills], incumbent: Mapping[str, Any]) -> Iterator[str]:
    names = [f"`{name}`" for name in columns] + [f"verifier on `{name}`" for name in incumbent]
    yield f"| defect | must be noticed by | {' | '.join(names)} |"
    yield "|---" * (2 + len(names)) + "|"
    for mutant in mine:
        cells = [cell(kills.get(mutant.id)) for kills in columns.values()]
        cells += [theirs(told["mutants"].get(mutant.id)) for told in incumbent.values()]
        name, declared = mutant.id.partition("/")[2], mutant.kills.partition("/")[2]
        yield f"| `{name}` | {declared} | {' | '.join(cells)} |"


def cell(kill: Mapping[str, Any] | None) -> str:
    """What became of a mutant in one adapter."""
    if kill is None:
        return "not run"
    also = ", ".join(id.partition("/")[2] for id in kill.get("without", ()))
    return SHORT.get(kill["fate"], kill["fate"].lower()) + (f" + {also}" if also else "")


def theirs(told: Mapping[str, Any] | None) -> str:
    verdict = "not run" if told is None else told["verdict"]
    return {"noticed": "**noticed**", "unnoticed": "-", "broke": "*broke*"}.get(verdict, verdict)


def columns_of(paths: Sequence[Path]) -> dict[str, Kills]:
    """By adapter, from all reports; what a later one says of a mutant counts."""
    found: dict[str, Kills] = {}
    for path in paths:
        for adapter in json.loads(path.read_text(encoding="utf-8"))["verdicts"]["adapters"]:
            if "mutants" not in adapter:
                sys.exit(f"{path}: {adapter['adapter']} was judged without --mutants; run it again with that option")
            found.setdefault(adapter["adapter"], {}).update({kill["mutant"]: kill for kill in adapter["mutants"]})
    return found


def drift(text: str, columns: Mapping[str, Kills]) -> Iterator[str]:
    """One line per mutant that the page does not show as the reports have it."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    heads = next((row for row in rows if row[0] == "defect"), [])
    shown = {(family, row[0].strip("`")): dict(zip(heads, row, strict=False)) for family, row in _by_family(text)}
    known, proven = mutants(), set[str]()
    for id, mutant in known.items():
        family, _, name = id.partition("/")
        row = shown.pop((family, name), None)
        proven |= {mutant.kills} if row and SHORT["KILLED"] in row.values() else set()
        if row is None:
            yield f"{PAGE.name}: {id} is missing; make the page again with nox -s mutants"
            continue
        if row["must be noticed by"] != mutant.kills.partition("/")[2]:
            yield f"{PAGE.name}: {id} is to be noticed by {mutant.kills}; make the page again with nox -s mutants"
        for adapter, kills in columns.items():
            if id not in kills:
                # A run that is not complete leaves some out.
                continue
            got, want = row.get(f"`{adapter}`", ""), cell(kills.get(id))
            # Who else finds something slow is not the same on every machine.
            same = got == want if family != "throughput" else got.partition(" + ")[0] == want.partition(" + ")[0]
            if not same:
                yield f"{PAGE.name}: {id} on {adapter}: {got}, the report says {want}; run nox -s mutants"
    for id in sorted({mutant.kills for mutant in known.values()} - proven):
        yield f"{PAGE.name}: {id} notices nothing that the rest of its family lets pass; write a mutant that shows it"
    for family, name in shown:
        yield f"{PAGE.name}: {family}/{name} is no mutant; make the page again with nox -s mutants"


def _by_family(text: str) -> Iterator[tuple[str, list[str]]]:
    family = ""
    for line in text.splitlines():
        if line.startswith("## "):
            family = line[3:]
        elif family and line.startswith("| `"):
            yield family, line.strip("| ").split(" | ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page differs")
    given = parser.parse_args()
    columns = columns_of(given.reports)
    if given.check:
        lines = list(drift(PAGE.read_text(encoding="utf-8"), columns))
        print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
        return 1 if lines else 0
    incumbent = json.loads(INCUMBENT.read_text(encoding="utf-8"))
    PAGE.write_text(page(columns, incumbent), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
