"""docs/findings.md: what it shows happens, what ledgers declare stands in it, and nothing else does.

The page is made of ledgers, templates and what runs showed. Runs take minutes, so what they showed is taken from the
page itself here; all else is made anew and must be the page, letter for letter.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from conformance import adapters, findings, ledger, reproductions
from conformance.ledger import Entry
from conformance.requirement import requirements
from conformance.spec import AdapterSpec

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / findings.PAGE).read_text(encoding="utf-8")
BLOCKS = findings.BLOCK.findall(PAGE)
SPECS = adapters.resolve(["all"])


@pytest.fixture(autouse=True)
def names_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred blocks ask for an adapter by name twice each; what is installed stays the same meanwhile."""
    monkeypatch.setattr(adapters, "entry_points", functools.cache(adapters.entry_points))


def test_the_page_is_what_ledgers_and_templates_make_of_its_figures() -> None:
    assert list(findings.drift(PAGE, SPECS)) == []


def test_every_entry_of_every_ledger_stands_in_the_page_once() -> None:
    declared: Counter[tuple[str, ...]] = Counter()
    for title, path in [(findings.SHARED, ledger.SHARED), *((spec.name, spec.ledger) for spec in SPECS)]:
        if path.exists():
            for entry in tomllib.loads(path.read_text())["deviation"]:
                declared[title, entry["requirement"], entry["at"], ", ".join(entry.get("layouts", []))] += 1
    stands: Counter[tuple[str, ...]] = Counter()
    title = id = ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif line.startswith("### "):
            id = line.partition("]")[0].removeprefix("### [")
        elif line.startswith("| `"):
            at, layouts = re.findall(r"\| `([^`]+)` \| ([^|]+) \|", line)[0]
            stands[title, id, at, "" if layouts in ("-", "every layout") else layouts] += 1
    assert stands == declared


@pytest.mark.parametrize("adapter", sorted({re.findall(r'boot\(adapter="([^"]+)"', code)[0] for code, _ in BLOCKS}))
def test_what_a_block_prints_stands_below_it(adapter: str) -> None:
    """Every block of the page is run, in this process."""
    mine = {code: told for code, told in BLOCKS if f'boot(adapter="{adapter}"' in code}
    got = {code: reproductions.printed(code) for code in mine}
    assert [(code, told, got[code]) for code, told in mine.items() if not findings.alike(told, got[code])] == []


def test_what_is_shown_of_the_shipped_adapter_is_not_so_of_the_complete_one() -> None:
    """Lines that say the same of an adapter without findings would show nothing: one block of each kind is tried."""
    (shipped,) = (spec for spec in SPECS if spec.name == "bd3lm")
    known, same = requirements(), []
    for section in findings.sections([shipped], known):
        # It boots around a model by architecture, which is the shipped adapter again.
        kinds = {entry.requirement: {} for entry in section.entries if entry.requirement != "loading/opt-in"}
        for id in kinds:
            here = (entries for entries in findings.groups(section.entries, id) if entries[0].in_range())
            kinds[id] = {entries[0].finding: entries for entries in here}
        for entries in (entries for by_code in kinds.values() for entries in by_code.values()):
            code = reproductions.block(shipped, entries)
            try:
                told = reproductions.printed(code.replace('"bd3lm"', '"bd3lm-reference"'))
            except Exception:
                continue
            if findings.alike(dict(BLOCKS)[code], told):
                same.append(code)
    assert same == []


def test_a_block_is_short_and_uses_what_a_researcher_has() -> None:
    assert len(BLOCKS) == PAGE.count("```python")
    for code, told in BLOCKS:
        assert len(code.splitlines()) <= reproductions.LINES
        assert told.strip()
        imported = re.findall(r"^(?:from|import) (conformance[\w.]*)", code, flags=re.MULTILINE)
        assert {name for name in imported if not name.startswith("conformance.oracles.")} == {"conformance"}


def test_the_links_lead_into_the_contract() -> None:
    headings = {
        line.removeprefix("### ").replace("/", "")
        for line in (ROOT / "CONTRACT.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("### ")
    }
    assert set(re.findall(r"\.\./CONTRACT\.md#([\w-]+)", PAGE)) <= headings


def test_no_template_names_an_adapter() -> None:
    names = {spec.name for spec in SPECS}
    text = "\n".join(path.read_text() for path in Path(reproductions.__file__).parent.glob("*.py"))
    assert [name for name in sorted(names) if re.search(rf"\b{re.escape(name)}\b", text)] == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("off by 4.3e+00", "off by 4.4e+00", True),
        ("off by 9.8e-07", "off by 1.1e-06", True),
        ("off by 4.3e+00", "off by 4.3e-01", False),
        ("off by 0.0e+00", "off by 0.0e+00", True),
        ("off by 0.0e+00", "off by 1.0e-07", False),
        ("off by -1.0e+00", "off by 1.0e+00", False),
        ("of (2, 21)", "of (2, 42)", False),
        ("off by 4.3e+00", "is off by 4.3e+00", False),
    ],
)
def test_numbers_are_compared_by_their_size(one: str, other: str, same: bool) -> None:
    assert findings.alike(one, other) is same


def test_an_entry_that_is_new_or_gone_is_told() -> None:
    (spec,) = (spec for spec in SPECS if spec.name == "bd3lm")
    known = requirements()
    (section,) = (found for found in findings.sections([spec], known) if found.title == "bd3lm")
    evidence = findings.Evidence()
    evidence.rows = {(section.title, entry): findings.Seen("`1`", "`2`", "3.0e+00") for entry in section.entries}
    fewer = replace(section, entries=section.entries[1:])
    text = findings.page([section], known, evidence)
    assert findings.read(text, [section], known).rows == evidence.rows
    # A page of all entries says more than one entry less does, and the other way round.
    assert len(findings.read(findings.page([fewer], known, evidence), [section], known).rows) == len(fewer.entries)
    assert findings.page([fewer], known, findings.read(text, [fewer], known)) != text


def test_a_finding_that_no_template_shows_says_what_to_write() -> None:
    (spec,) = (spec for spec in SPECS if spec.name == "bd3lm")
    entry = Entry("hooks/identity", "logits", "not-bit-equal", because="of a test")
    with pytest.raises(reproductions.NoReproduction) as told:
        reproductions.block(spec, (entry,))
    assert str(told.value) == (
        "hooks/identity: not-bit-equal at logits (bd3lm): no reproduction; write a template in "
        "conformance/reproductions/hooks.py"
    )


def test_a_run_that_its_ledger_does_not_explain_makes_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    class Report:
        def __init__(self, requirement: str) -> None:
            self.requirement = requirement

        @property
        def results(self) -> list[object]:
            evidence = {"findings": [{"at": "logits", "code": "value-mismatch"}]}
            return [findings_result(self.requirement, evidence)]

    def findings_result(requirement: str, evidence: dict[str, object]) -> object:
        from conformance.finding import Verdict
        from conformance.verification import Result

        return Result(requirement, "MUST", "train", Verdict.FAIL, evidence)

    spec: AdapterSpec = SPECS[0]
    monkeypatch.setattr(findings, "verify", lambda name: Report("parity/logits"))
    with pytest.raises(findings.NotTrue, match=r"parity/logits in train is FAIL \(logits: value-mismatch\)"):
        findings.judged(spec)
    # How fast a machine is says nothing of an adapter.
    monkeypatch.setattr(findings, "verify", lambda name: Report("throughput/ratio"))
    findings.judged(spec)
