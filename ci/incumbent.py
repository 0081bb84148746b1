"""The incumbent's column: what TransformerLens's own verifier says of every mutant.

Every mutant is put into a boot of its own, layout by layout, and the suite (see incumbent_suite.py, which lists what it
is helped with) runs on it. A mutant is

- noticed, when something fails that does not fail on the clean adapter, in any layout; `by` says what, `in` where;
- broke, when the suite itself crashed instead, with the `error`;
- unnoticed otherwise; what has then become a warning stands under `warned`, and what passed on the clean adapter and
  now neither passes nor fails, since it was left out or compared with nothing, under `lapsed`;
- no place, when the adapter has nothing for it to sit in, with the `cause`.

    python ci/incumbent.py [ADAPTER ...]         # all of docs/incumbent.json, or all of some adapters
    python ci/incumbent.py --only MUTANT ...     # some mutants again, the rest as it is
    python ci/incumbent.py --check               # 1 when the file lists other mutants than there are; runs nothing
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.adapters import resolve
from conformance.booting import miniature
from conformance.mutants import Mutant, NoPlace, mutants
from conformance.offline import offline
from conformance.spec import in_one_line

if TYPE_CHECKING:
    from conformance.subject import Boot

DATA = Path(__file__).resolve().parent.parent / "docs" / "incumbent.json"
ADAPTERS = ("bd3lm", "llada@repaired")


class Incumbent:
    """The suite on one adapter, with what it says of it as it is."""

    def __init__(self, name: str) -> None:
        from incumbent_suite import Call

        from conformance.subject import Boot

        (spec,) = resolve([name])
        self.boot = Boot(spec, miniature(spec, name), trusted=True)
        self.calls = {layout: Call.of(pair) for layout, pair in self.boot.pairs.items()}
        # Each of its steps asks for a collection: let it look through what this run makes, not through libraries.
        gc.collect()
        gc.freeze()
        self.clean = {layout: self._said(layout) for layout in self.calls}

    def _said(self, layout: str, boot: Boot | None = None) -> dict[str, Any]:
        from incumbent_suite import said

        return said(boot or self.boot.afresh(), self.calls[layout])

    def as_it_is(self) -> dict[str, Any]:
        """What it says of the clean adapter, by layout: how many results a phase has, what fails and is skipped."""
        return {
            layout: {
                "results": {phase: sum(n.startswith(phase) for n in told) for phase in sorted({n[0] for n in told})},
                "failed": {name: one.message for name, one in told.items() if one.state == "failed"},
                "skipped": {name: one.message for name, one in told.items() if one.state == "skipped"},
            }
            for layout, told in self.clean.items()
        }

    def verdict(self, mutant: Mutant) -> dict[str, Any]:
        """What it says of a mutant, in all layouts."""
        told: dict[str, dict[str, Any]] = {}
        errors: list[str] = []
        try:
            for layout in self.calls:
                boot = self.boot.afresh()
                mutant.apply(boot)
                try:
                    told[layout] = self._said(layout, boot)
                except Exception as error:
                    errors.append(in_one_line(error))
        except NoPlace as none:
            return {"verdict": "no place", "cause": str(none)}
        news = {layout: dict(changes(self.clean[layout], now)) for layout, now in told.items()}
        kinds = {kind: sorted({n for new in news.values() for n in new if new[n] == kind}) for kind in KINDS}
        if kinds["failed"]:
            where = [layout for layout, new in news.items() if "failed" in new.values()]
            return {"verdict": "noticed", "by": kinds["failed"], "in": where}
        more = {kind: kinds[kind] for kind in KINDS[1:] if kinds[kind]}
        return {"verdict": "broke", "error": errors[0], **more} if errors else {"verdict": "unnoticed", **more}


KINDS = ("failed", "warned", "lapsed")


def changes(clean: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is worse than on the clean adapter, and how."""
    for name, one in now.items():
        before = clean[name].state if name in clean else "absent"
        if (one.state == "failed" and before != "failed") or (one.state == "warned" and before == "passed"):
            yield name, str(one.state)
    for name, one in clean.items():
        if one.state in ("passed", "warned") and (name not in now or now[name].state == "skipped"):
            yield name, "lapsed"


def differences(data: Mapping[str, Any], code: Sequence[str]) -> Iterator[str]:
    """Where the file lists other mutants than there are."""
    for name in ADAPTERS:
        listed = data["adapters"].get(name, {}).get("mutants", {})
        yield from (f"{name}: lacks {id}" for id in code if id not in listed)
        yield from (f"{name}: holds {id}, which is no mutant" for id in listed if id not in code)


def merged(data: dict[str, Any], name: str, incumbent: Incumbent, wanted: Sequence[str]) -> None:
    """Put what it says of some mutants of an adapter into the data, in the order of the code."""
    code = mutants()
    held = data["adapters"].get(name, {}).get("mutants", {})
    try:
        for number, id in enumerate(wanted, 1):
            held[id] = incumbent.verdict(code[id])
            print(f"{name} {number}/{len(wanted)} {id}: {held[id]['verdict']}", file=sys.stderr, flush=True)
    finally:
        ordered = {id: held[id] for id in code if id in held}
        data["adapters"][name] = {"clean": incumbent.as_it_is(), "mutants": ordered}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or compare it with the code; 1 when they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", nargs="*", default=ADAPTERS, metavar="ADAPTER")
    parser.add_argument("--only", nargs="+", metavar="MUTANT", help="run some mutants again and leave the rest")
    parser.add_argument("--check", action="store_true", help="compare the list of mutants and run nothing")
    asked = parser.parse_args(argv)
    code = list(mutants())
    data = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {"adapters": {}}
    if asked.check:
        found = list(differences(data, code))
        print("\n".join(found) or f"{DATA.name}: lists all {len(code)} mutants")
        return int(bool(found))
    if unknown := [id for id in asked.only or () if id not in code]:
        parser.error(f"no such mutant: {', '.join(unknown)}")
    import torch

    torch.set_num_threads(1)
    try:
        with offline():
            for name in asked.adapters:
                merged(data, name, Incumbent(name), asked.only or code)
    finally:
        _write(data)
    return 0


def _write(data: Mapping[str, Any]) -> None:
    kept = {name: data["adapters"][name] for name in ADAPTERS if name in data["adapters"]}
    whole = {"transformer-lens": version("transformer-lens"), "adapters": kept}
    DATA.write_text("".join(_lines(whole)) + "\n", encoding="utf-8")


def _lines(value: Any, depth: int = 0) -> Iterator[str]:
    """JSON in which a mutant, or a group of results, is one line."""
    if depth > 3 or not isinstance(value, dict):
        yield json.dumps(value, ensure_ascii=False)
        return
    for number, (name, one) in enumerate(value.items()):
        yield f"{',' if number else '{'}\n{' ' * (depth + 1)}{json.dumps(name)}: "
        yield from _lines(one, depth + 1)
    yield f"\n{' ' * depth}}}"


if __name__ == "__main__":
    raise SystemExit(main())
