"""Reports of shards, held against their plan and put together into what single runs would have said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from .report import reading
from .report.document import Document, expectation, measurements, sealed
from .shards import Shard, slug


class Refused(ValueError):
    """Reports that do not add up; `lines` says each thing that is wrong, and what to do about it."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Run:
    """What a single pytest would have judged, and the report that it would have written."""

    versions: str
    name: str
    document: Document

    @property
    def red(self) -> bool:
        """Whether that pytest would have ended with exit status 1."""
        return any(adapter["summary"]["red"] for adapter in self.document["verdicts"]["adapters"])


@dataclass(frozen=True, slots=True)
class Trait:
    """Something that a shard expects of its report; what it expects may be None, which is not known beforehand."""

    name: str
    got: Callable[[Mapping[str, Any], Shard], list[Any]]
    want: Callable[[Shard], list[Any]]
    hint: str

    def fits(self, verdicts: Mapping[str, Any], shard: Shard) -> bool:
        """Whether a report has it as the shard expects."""
        got, want = self.got(verdicts, shard), self.want(shard)
        return len(got) == len(want) and all(wanted in (None, given) for given, wanted in zip(got, want, strict=True))


def _model(part: str) -> Callable[[Mapping[str, Any], Shard], list[Any]]:
    return lambda verdicts, shard: [adapter["model"][part] for adapter in verdicts["adapters"]]


def _expected(part: str) -> Callable[[Shard], list[Any]]:
    return lambda shard: [expected[part] for expected in shard.expects.values()]


def _pinned(verdicts: Mapping[str, Any], shard: Shard) -> list[str]:
    """The versions that are pinned, in the words of the pin where they are the same."""
    found = []
    for pin in shard.versions.split():
        name, exact, version = pin.partition("==")
        has = verdicts["versions"].get(name, "none")
        same = SpecifierSet(exact + version).contains(has, prereleases=True)
        found.append(pin if same else f"{name}=={has}")
    return found


def _cases(verdicts: Mapping[str, Any], shard: Shard) -> list[str]:
    return [
        expectation(((r["requirement"], r["level"], r.get("layout")) for r in adapter["results"]), adapter["left_out"])
        for adapter in verdicts["adapters"]
    ]


TRAITS = (
    Trait(
        "adapter",
        lambda verdicts, shard: [adapter["adapter"] for adapter in verdicts["adapters"]],
        lambda shard: list(shard.expects),
        "it is of another plan",
    ),
    Trait("model", _model("label"), _expected("label"), "it is of another plan"),
    Trait("versions", _pinned, lambda shard: shard.versions.split(), "install what the plan pins, and run it again"),
    Trait("digest of the code", _model("code"), _expected("code"), "run it again on the model that was planned"),
    Trait("digest of the weights", _model("weights"), _expected("weights"), "run it again on the weights planned"),
    Trait("state", lambda v, s: [v["state"]], lambda s: ["COMPLETE"], "run the command of the plan to its end"),
    Trait("contract", lambda v, s: [v["contract"]], lambda s: [s.contract], "install one version for plan and shards"),
    Trait("digest of the cases", _cases, _expected("cases"), "install one version of this package everywhere"),
)
"""In the order in which they are told: whose report it is, then whether it is a good one."""


def join(shards: Sequence[Shard], paths: Sequence[Path]) -> list[Run]:
    """The report of every run of a plan, in its order, from exactly one good report of every shard.

    Raises:
        Refused: a report that cannot be read, is of no shard or was not finished; shards with several reports or none;
            reports of one run that two environments gave, or of one checkpoint that was two.
    """
    wrong: list[str] = []
    found: dict[str, list[tuple[Path, Document]]] = {}
    for path in paths:
        try:
            document = reading.read(path)
            found.setdefault(_shard_of(path, document, shards).id, []).append((path, document))
        except (reading.ReportError, Refused) as refused:
            wrong.append(str(refused))
            # Its shard is not missing, too.
            found.setdefault(path.stem, [])
    for shard in shards:
        given = [str(path) for path, _ in found.get(shard.id, ())]
        if len(given) > 1:
            wrong.append(f"{', '.join(given)}: are all of shard {shard.id}; keep the one that is to count")
        if shard.id not in found:
            wrong.append(f"{shard.report}: shard without a report; run it: {shard.command}")
    runs = _runs(shards)
    wrong += _mixed(runs, found)
    wrong += _moved(shards, found)
    if wrong:
        raise Refused(*wrong)
    return [_joined(parts, [found[shard.id][0][1] for shard in parts]) for parts in runs]


def _shard_of(path: Path, document: Document, shards: Sequence[Shard]) -> Shard:
    """The shard that a report is of, by what it says; names of files may lie."""
    candidates, verdicts = list(shards), document["verdicts"]
    for trait in TRAITS:
        fitting = [shard for shard in candidates if trait.fits(verdicts, shard)]
        if not fitting:
            got = _listed(trait.got(verdicts, candidates[0]))
            want = dict.fromkeys(_listed(trait.want(shard)) for shard in candidates)
            known = " or ".join(want) if len(want) < 4 else f"one of the {len(want)} planned"
            raise Refused(f"{path}: {trait.name} {got}, want {known}; {trait.hint}")
        candidates = fitting
    return candidates[0]


def _listed(parts: Sequence[Any]) -> str:
    return ", ".join(map(str, parts))


def _runs(shards: Sequence[Shard]) -> list[list[Shard]]:
    runs: dict[tuple[str, str], list[Shard]] = {}
    for shard in shards:
        runs.setdefault(shard.run, []).append(shard)
    return list(runs.values())


Found = Mapping[str, Sequence[tuple[Path, Document]]]


def _mixed(runs: Sequence[Sequence[Shard]], found: Found) -> Iterator[str]:
    """One line for each report of a run that was made in another environment than the first."""
    for parts in runs:
        reports = [report for shard in parts for report in found.get(shard.id, ())[:1]]
        for path, document in reports[1:]:
            first, other = reports[0][1]["verdicts"]["versions"], document["verdicts"]["versions"]
            for name in dict.fromkeys((*first, *other)):
                if first.get(name) != other.get(name):
                    yield (
                        f"{path}: {name} {other.get(name)}, want {first.get(name)} as in {reports[0][0]}; "
                        "run both in one environment"
                    )
                    break


def _moved(shards: Sequence[Shard], found: Found) -> Iterator[str]:
    """One line for each report on a checkpoint that was another one than under other versions."""
    seen: dict[tuple[str, str], tuple[Path, Any]] = {}
    for shard in shards:
        for path, document in found.get(shard.id, ())[:1] if shard.checkpoint else ():
            (adapter,) = document["verdicts"]["adapters"]
            first, model = seen.setdefault((shard.adapters, shard.checkpoint), (path, adapter["model"]))
            if model != adapter["model"]:
                yield f"{path}: {shard.checkpoint} is not what it was in {first}; pin its revision, and run both again"


def _joined(parts: Sequence[Shard], reports: Sequence[Document]) -> Run:
    verdicts = {**reports[0]["verdicts"], "adapters": [a for one in reports for a in one["verdicts"]["adapters"]]}
    measured = [report["measurements"] for report in reports]
    models = {name: folder for one in measured for name, folder in one["models"].items()}
    modules = {name: module for one in measured for name, module in one.get("modules", {}).items()}
    cases = {node: case for one in measured for node, case in one["cases"].items()}
    first = parts[0]
    name = first.id if first.checkpoint else slug(first.versions) or "installed"
    document = sealed(verdicts, measurements(_hosts([one["host"] for one in measured]), models, modules, cases))
    return Run(first.versions, name, document)


def _hosts(hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all machines are, and in a list what they are where they differ."""
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for host in hosts for name in host):
        values = {json.dumps(host.get(name)): host.get(name) for host in hosts}
        joined[name] = next(iter(values.values())) if len(values) == 1 else list(values.values())
    return joined
