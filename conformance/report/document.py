"""The report as one JSON document: verdicts, the same bytes for the same truth, and measurements beside them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import checkpoint, ledger
from ..finding import LEDGER_CODES, MET, Verdict
from ..request import Case, Request
from ..requirement import CONTRACT_VERSION, FAMILIES, Level
from ..spec import AdapterSpec
from . import proof
from .badge import badge
from .coverage import coverage

SCHEMA = Path(__file__).with_name("schema.json")
SCHEMA_VERSION = "1"
DISTRIBUTIONS = ("bridge-conformance", "torch", "transformer-lens", "transformers")

Document = dict[str, Any]


def build(
    request: Request,
    expected: Mapping[str, Case],
    told: Mapping[str, Mapping[str, Any]],
    state: str,
    kills: Mapping[str, Mapping[str, Any]],
) -> Document:
    """The document of a run, validated; `told` and `kills` map node ids to what came of cases and of mutants."""
    adapters = []
    for spec in request.specs:
        mine = {node: case for node, case in expected.items() if case.spec is spec and node in told}
        results = [
            {
                "requirement": case.requirement.id,
                "level": str(case.requirement.level),
                **({"layout": case.layout} if case.layout else {}),
                **told[node]["outcome"],
            }
            for node, case in mine.items()
        ]
        mutants = [kills[one.node]["kill"] for one in request.placed() if one.spec is spec and one.node in kills]
        red = any(told[node]["red"] for node in mine) or proof.red(mutants)
        identity, summary = _identity(request, spec), _summary(results, red, state)
        if request.mutants:
            summary["mutants"] = proof.summary(mutants)
        adapters.append(
            {
                **identity,
                "summary": summary,
                "badge": badge(spec.name, identity["model"], summary),
                "coverage": coverage(results),
                "left_out": request.left_out(spec),
                "results": results,
                **({"mutants": mutants} if request.mutants else {}),
            }
        )
    verdicts = {
        "state": state,
        "contract": CONTRACT_VERSION,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in DISTRIBUTIONS}},
        "adapters": adapters,
    }
    host = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    models = {name: str(source.folder) for name, source in request.sources.items()}
    modules = {spec.name: spec.module for spec in request.specs}
    cases = {node: told[node]["measurements"] for node in expected if node in told}
    cases |= {one.node: kills[one.node]["measurements"] for one in request.placed() if one.node in kills}
    return sealed(verdicts, measurements(host, models, modules, cases))


def sealed(verdicts: Mapping[str, Any], measured: Mapping[str, Any]) -> Document:
    """The document of these two parts, with the digest of the first, validated."""
    document = {
        "schema": SCHEMA_VERSION,
        "verdicts": dict(verdicts),
        "digest": digest(verdicts),
        "measurements": dict(measured),
    }
    validate(document)
    return document


def measurements(
    host: Mapping[str, Any],
    models: Mapping[str, str],
    modules: Mapping[str, str],
    cases: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What is not hashed: by adapter, `models` are folders and `modules` hold the specs; `cases` add up here."""
    forwards: Counter[str] = Counter()
    seconds = Counter(dict.fromkeys(FAMILIES, 0.0))
    for node, measured in cases.items():
        forwards.update(measured.get("forwards", {}))
        family = node.partition("::")[0].removeprefix("conformance.")
        seconds[family.partition(".")[0]] += measured["seconds"]
    return {
        "host": dict(host),
        "models": dict(models),
        "modules": dict(modules),
        "forwards": dict(sorted(forwards.items())),
        "seconds": {family: round(spent, 3) for family, spent in seconds.items()},
        "cases": dict(cases),
    }


def expectation(cases: Iterable[tuple[str, str, str | None]], left_out: Mapping[str, str]) -> str:
    """A digest of what a report on one adapter must hold, whatever comes of it: (requirement, level, layout)s."""
    plain = json.dumps([[list(case) for case in cases], sorted(left_out.items())])
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _identity(request: Request, spec: AdapterSpec) -> dict[str, Any]:
    source = request.sources[spec.name]
    config = checkpoint.read_config(source.folder, spec)
    return {
        "adapter": spec.name,
        "architecture": spec.architecture,
        "model": {
            "label": source.label,
            "miniature": source.miniature,
            "code": checkpoint.content_key(source.folder),
            "weights": _weights(source.with_weights(spec)),
        },
        "sizes": spec.resolve(config),
        "layouts": [layout.name for layout in spec.layouts],
    }


def _weights(folder: Path) -> str | None:
    # A miniature whose weights could not be drawn has none; loading/boots says why.
    return checkpoint.weights_key(folder) if folder.is_dir() else None


def _summary(results: Sequence[Mapping[str, Any]], red: bool, state: str) -> dict[str, Any]:
    """Counts of requirements, each met when it is met in every layout; a verdict only of a complete run."""
    by_requirement: dict[tuple[str, str], list[str]] = {}
    for result in results:
        by_requirement.setdefault((result["level"], result["requirement"]), []).append(result["verdict"])
    counts = {}
    for level in Level:
        verdicts = [found for (own, _), found in by_requirement.items() if own == level]
        met = sum(all(verdict in MET for verdict in found) for found in verdicts)
        counts[str(level)] = {"met": met, "of": len(verdicts)}
    must = counts[str(Level.MUST)]
    having = {verdict: sum(verdict in found for found in by_requirement.values()) for verdict in Verdict}
    return {
        # What a declared deviation blocks makes no run red, and is not proven either.
        "conforms": not red and must["met"] == must["of"] if state == "COMPLETE" else None,
        "red": red,
        "levels": counts,
        "refused": having[Verdict.REFUSED],
        "deviations": having[Verdict.DEVIATION],
        "verdicts": dict(sorted(Counter(result["verdict"] for result in results).items())),
    }


def canonical(verdicts: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed."""
    # What is no character becomes an escape, which JSON reads back as it was.
    text = json.dumps(verdicts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="backslashreplace")


def digest(verdicts: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical bytes, in hexadecimal."""
    return hashlib.sha256(canonical(verdicts)).hexdigest()


def validate(document: Document) -> None:
    """jsonschema.ValidationError unless the document follows the committed schema."""
    import jsonschema

    jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))


def text_of(document: Document) -> str:
    """The document as it stands in a file."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str, *, fresh: bool = False) -> None:
    """Write a text file atomically: beside its place first, then renamed; where `fresh`, over nothing."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            # Some disks say only now that they are full; and after a power cut a name could stand for an empty file.
            file.flush()
            os.fsync(handle)
        os.chmod(draft, 0o644)
        if fresh and path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.replace(draft, path)
    finally:
        # It has its name by now, or is not needed: an interrupt can come at any point.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def deviations(document: Document) -> str:
    """Ledger entries, reasons left to write, for everything that failed undeclared."""
    return "\n".join(text for text in map(_drafts, document["verdicts"]["adapters"]) if text)


def _drafts(adapter: Mapping[str, Any]) -> str:
    def found() -> Iterator[tuple[str, str | None, str, str]]:
        for result in adapter["results"]:
            for finding in result.get("findings", []):
                if finding["code"] not in (*LEDGER_CODES, "unconfirmed"):
                    yield result["requirement"], result.get("layout"), finding["at"], finding["code"]

    return ledger.draft(found(), adapter["sizes"].get("layers", 0), adapter["layouts"])
