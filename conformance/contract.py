"""CONTRACT.md and contract.lock, made from the registry: `python -m conformance.contract`; and the rule of releases."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .budgets import BUDGETS
from .mutants import Mutant, mutants
from .requirement import CONTRACT_VERSION, FAMILIES, Occasion, Requirement, module_of, requirements
from .spec import CEILINGS

HEAD = """\
# Contract

What a bridge adapter must do, version {version}. This file is made from the registry of checks by
`python -m conformance.contract`; edit the docstring of the check instead.

Every requirement has an id, a level and one sentence. MUST decides the verdict of a run; SHOULD is listed and
counted. A requirement is judged once per layout of the adapter's spec where its sentence speaks of a forward,
otherwise once per adapter. Under *needs* stand the requirements whose findings leave a place unproven here;
under *must notice* the known defects that are declared for it. docs/kill-matrix.md says in which adapters it noticed
them, and who else would have.

## Releases

The contract has a version of its own, `MAJOR.MINOR`, which every report carries; `since` is the version that brought
a requirement. `contract.lock` holds its levels, the hashes of its sentences, its budgets and its ceilings of time.

- A patch of the package ships the `contract.lock` of the release before it, byte for byte. So it never adds a MUST,
  raises a level, sharpens a sentence or tightens a budget. It may make the suite faster, say more of a finding, mend a
  check that was red without reason, and add adapters, commands and known defects. A check that let pass what its
  sentence forbids, of which the lock knows nothing, waits for a minor.
- A minor may ship a contract with a higher MINOR, and says what changed in it: requirements, levels, sentences,
  budgets. It removes none, so ledgers and reports stay readable.
- A major may ship a contract with a higher MAJOR, from which requirements are gone. The id of one that is gone is never
  given to another.

`python -m conformance.contract --against LOCK`, with the lock of the release before, says what a release may not be.
"""


def page() -> str:
    """The text of CONTRACT.md."""
    known = requirements()
    defects = mutants()
    parts = [HEAD.format(version=CONTRACT_VERSION)]
    for family in FAMILIES:
        module = sys.modules[module_of(family)]
        parts.append(f"\n## {family}\n\n{_first_line(module.__doc__ or '')}\n")
        parts += [
            "\n".join(_section(required, [m for m in defects.values() if m.kills == required.id]))
            for required in known.values()
            if required.family == family
        ]
    return "\n".join(parts)


def lock() -> str:
    """The text of contract.lock: by id level, since and the hash of the sentence, then budgets and ceilings."""
    required = {
        required.id: {"level": str(required.level), "since": required.since, "sentence": required.digest}
        for required in requirements().values()
    }
    budgets = {each.name: {"noise": each.noise, "ulps": each.ulps} for each in BUDGETS}
    locked = {"version": CONTRACT_VERSION, "budgets": budgets, "ceilings": dict(CEILINGS), "requirements": required}
    return json.dumps(locked, indent=1, sort_keys=True) + "\n"


def _first_line(doc: str) -> str:
    line = doc.partition("PYTEST_DONT_REWRITE")[0].strip().partition(": ")[2]
    return line[:1].upper() + line[1:]


def terms(required: Requirement) -> str:
    """`MUST, since 1, once per layout.`: what it weighs, and when it is judged."""
    once = f"once per {'layout' if required.per_layout else 'adapter'}"
    runs = "" if required.run is Occasion.EVERY else f", in runs with `{required.run}`"
    return f"{required.level}, since {required.since}, {once}{runs}."


def _section(required: Requirement, defects: list[Mutant]) -> Iterator[str]:
    yield f"### {required.id}\n"
    yield f"{required.sentence}\n"
    yield f"{terms(required)}\n"
    yield f"*Why:* {required.reason}\n"
    if required.needs:
        yield f"*Needs:* {', '.join(required.needs)}\n"
    if defects:
        yield "*Must notice:*\n"
        yield from (f"- `{defect.id}`: {defect.story}" for defect in defects)
        yield ""


def drift(root: Path) -> Iterator[str]:
    """One line per way in which the committed files differ from the registry; ids first."""
    path = root / "contract.lock"
    locked = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    now = json.loads(lock())
    old, new = locked.get("requirements", {}), now["requirements"]
    for id in sorted(old.keys() | new.keys()):
        if id not in new:
            yield f"contract.lock: {id} is gone from the registry; users rely on ids, so put it back or delete it there"
        elif id not in old:
            yield f"contract.lock: {id} is new; run `python -m conformance.contract` to add it"
        elif old[id] != new[id]:
            changed = ", ".join(key for key in new[id] if old[id].get(key) != new[id][key])
            yield f"contract.lock: {id} has another {changed}; if that is meant, run `python -m conformance.contract`"
    for part in ("version", "budgets", "ceilings"):
        if locked.get(part) != now[part]:
            yield f"contract.lock: the {part} changed; if that is meant, run `python -m conformance.contract`"
    yield from (
        f"{required.id}: since {required.since}, and the contract is version {CONTRACT_VERSION}; raise that first"
        for required in requirements().values()
        if numbers(required.since) > numbers(CONTRACT_VERSION)
    )
    contract = root / "CONTRACT.md"
    if not contract.exists() or contract.read_text(encoding="utf-8") != page():
        yield "CONTRACT.md: not what the registry says; run `python -m conformance.contract`"


def unreleasable(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """One line for each thing by which a contract may not follow another, both as contract.lock holds them."""
    before, after = old["requirements"], new["requirements"]
    was, now = numbers(old["version"]), numbers(new["version"])
    gone, added = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    if gone and now[0] <= was[0]:
        yield f"gone: {', '.join(gone)}; that takes contract {was[0] + 1}, this is {new['version']}"
    if now < was or (now == was and old != new):
        parts = [f"other {part}" for part in ("requirements", "budgets", "ceilings") if old[part] != new[part]]
        what = " and ".join(parts) or "an earlier version"
        yield f"{what}; that takes a contract after {old['version']}, this is {new['version']}"
    for id in added:
        if numbers(after[id]["since"]) <= was:
            yield f'{id}: is new, and says since {after[id]["since"]}; write since="{new["version"]}"'
    for id in before.keys() & after.keys():
        if before[id]["since"] != after[id]["since"]:
            yield f"{id}: says since {after[id]['since']}, and was there since {before[id]['since']}; write that again"


def _against(path: Path) -> list[str]:
    try:
        return list(unreleasable(json.loads(path.read_text(encoding="utf-8")), json.loads(lock())))
    except OSError as error:
        return [f"{path}: cannot be read: {error.strerror}; name the contract.lock of the release before"]
    except (ValueError, KeyError, TypeError):
        return [f"{path}: is no contract.lock; take that of the release before, as `git show TAG:contract.lock` has it"]


def numbers(version: str) -> tuple[int, int]:
    """`1.2` as numbers; a minor of 0 is left out in writing."""
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)


def main(arguments: list[str] | None = None) -> int:
    """Write both files into the current folder, or say what is not as it should be (exit status 1)."""
    parser = argparse.ArgumentParser(prog="python -m conformance.contract", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the files differ")
    parser.add_argument("--against", metavar="LOCK", type=Path, help="say what may not follow this contract.lock")
    root, given = Path.cwd(), parser.parse_args(arguments)
    if given.check or given.against:
        lines = list(drift(root)) if given.check else []
        if given.against:
            lines += _against(given.against)
        print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
        return 1 if lines else 0
    texts = {"contract.lock": lock(), "CONTRACT.md": page()}
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
