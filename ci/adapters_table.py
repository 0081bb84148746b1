"""The README's table of adapters, made from a report: `python ci/adapters_table.py REPORT [--check README]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KINDS = ("proven", "wrong", "dead", "refused", "unknown")


def rows(adapters: list[Mapping[str, Any]]) -> Iterator[str]:
    for adapter in adapters:
        yield f"| `{adapter['adapter']}` | {verdict(adapter)} | {hooks(adapter)} |"


def verdict(adapter: Mapping[str, Any]) -> str:
    summary = adapter["summary"]
    declared = summary["deviations"]
    if summary["conforms"]:
        return f"conforms with {declared} deviations" if declared else "conforms"
    met = summary["levels"]["MUST"]
    return f"{met['met']} of {met['of']} MUST, the rest blocked by what its ledger declares"


def hooks(adapter: Mapping[str, Any]) -> str:
    """What became of the advertised names, as in every layout."""
    told = []
    for layout in adapter["coverage"].values():
        counts = {kind: layout[kind] if kind == "proven" else len(layout[kind]) for kind in KINDS}
        told.append(", ".join(f"{count} {kind}" for kind, count in counts.items() if count))
    names = next((str(layout["advertised"]) for layout in adapter["coverage"].values()), "")
    return f"{names}: {' / '.join(dict.fromkeys(told))}" if told else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--check", type=Path, help="fail unless this page has every row")
    given = parser.parse_args()
    adapters = json.loads(given.report.read_text(encoding="utf-8"))["verdicts"]["adapters"]
    if given.check is None:
        print("\n".join(rows(adapters)))
        return 0
    page = given.check.read_text(encoding="utf-8").splitlines()
    missing = [row for row in rows(adapters) if row not in page]
    for row in missing:
        print(f"{given.check} lacks the row: {row}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
