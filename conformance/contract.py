"""CONTRACT.md and contract.lock, made from the registry: `python -m conformance.contract [--check]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .mutants import Mutant, mutants
from .requirement import CONTRACT_VERSION, FAMILIES, Occasion, Requirement, module_of, requirements

HEAD = """\
# Contract

What a bridge adapter must do, version {version}. This file is made from the registry of checks by
`python -m conformance.contract`; edit the docstring of the check instead.

Every requirement has an id, a level and one sentence. MUST decides the verdict of a run; SHOULD is listed and
counted. A requirement is judged once per layout of the adapter's spec where its sentence speaks of a forward,
otherwise once per adapter. Under *needs* stand the requirements whose findings leave a place unproven here;
under *must notice* the known defects that are declared for it. docs/kill-matrix.md says in which adapters it noticed
them, and who else would have.
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
    """The text of contract.lock: level, since and the hash of the sentence, by id."""
    locked = {
        required.id: {"level": str(required.level), "since": required.since, "sentence": required.digest}
        for required in requirements().values()
    }
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
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    new = json.loads(lock())
    for id in sorted(old.keys() | new.keys()):
        if id not in new:
            yield f"contract.lock: {id} is gone from the registry; users rely on ids, so put it back or delete it there"
        elif id not in old:
            yield f"contract.lock: {id} is new; run `python -m conformance.contract` to add it"
        elif old[id] != new[id]:
            changed = ", ".join(key for key in new[id] if old[id].get(key) != new[id][key])
            yield f"contract.lock: {id} has another {changed}; if that is meant, run `python -m conformance.contract`"
    contract = root / "CONTRACT.md"
    if not contract.exists() or contract.read_text(encoding="utf-8") != page():
        yield "CONTRACT.md: not what the registry says; run `python -m conformance.contract`"


def main(arguments: list[str] | None = None) -> int:
    """Write both files into the current folder, or with `--check` say how they differ (exit status 1)."""
    parser = argparse.ArgumentParser(prog="python -m conformance.contract", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the files differ")
    root = Path.cwd()
    if parser.parse_args(arguments).check:
        lines = list(drift(root))
        print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
        return 1 if lines else 0
    texts = {"contract.lock": lock(), "CONTRACT.md": page()}
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
