"""A plan: work larger than one machine, cut into shards that each judge some adapters on one model in one environment.

A run is what a single pytest could have judged: all adapters on their own models, or one adapter on one checkpoint,
in one environment. Shards are parts of runs, and `joining` puts their reports together again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Distribution
from packaging.utils import canonicalize_version

from . import adapters, checkpoint
from .report.document import DISTRIBUTIONS, expectation
from .request import Request, RequestError, Source, label, miniature, pinned
from .requirement import CONTRACT_VERSION, requirements
from .spec import AdapterSpec

MOST = 256
"""Jobs that one matrix of GitHub Actions takes."""


class PlanError(ValueError):
    """A plan that cannot be made or trusted; the message is one line and ends with what to do."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One job: `command` judges `adapters` in an environment with `versions`, and writes its report into `ID.json`.

    `adapters` is what `--adapter` takes and `checkpoint` what `--checkpoint` takes, empty where each adapter is judged
    on its own model; `fetch` names what the hub cache must hold, as OWNER/NAME@REV, and `versions` are exact pins as
    pip takes them, empty for whatever is installed; both are separated by spaces.
    `expects` says by adapter which model and which cases its report must be about, and `plan` is the digest of the
    whole plan.
    """

    id: str
    adapters: str
    model: str
    checkpoint: str
    fetch: str
    versions: str
    command: str
    contract: str
    expects: Mapping[str, Mapping[str, Any]]
    plan: str = ""

    @property
    def run(self) -> tuple[str, str]:
        """What it is a part of: environment, and checkpoint with its adapter if any."""
        return self.versions, f"{self.adapters}={self.checkpoint}" if self.checkpoint else ""

    @property
    def report(self) -> str:
        """The file that its command writes."""
        return f"{self.id}.json"


def make(
    wanted: Sequence[str],
    checkpoints: Sequence[str] = (),
    versions: Sequence[str] = (),
    *,
    together: int = 1,
    trust: bool = False,
) -> list[Shard]:
    """The shards of every adapter on its own model, and of every `ADAPTER=CHECKPOINT`, in every environment.

    Loads no model. An environment is pins separated by commas; `together` adapters share a shard.

    Raises:
        PlanError: a name, a checkpoint or a pin that leads nowhere, or two shards that no one could tell apart.
    """
    if not wanted and not checkpoints:
        raise PlanError("nothing to judge; name adapters with --adapter, or ADAPTER=CHECKPOINT with --checkpoint")
    if together < 1:
        raise PlanError(f"--together {together}: a shard judges at least one adapter; write 1")
    try:
        own = [(name, *_own(spec, trust)) for name, spec in _specs(wanted)]
        parts = [_part(own[start : start + together], "") for start in range(0, len(own), together)]
        parts += [_part([judged], name) for name, judged in (_checkpoint(text, trust) for text in checkpoints)]
    except (adapters.UnknownAdapter, checkpoint.CheckpointError, RequestError) as error:
        raise PlanError(str(error)) from None
    shards = [_placed(part, environment, trust) for environment in _environments(versions) for part in parts]
    if len(shards) > MOST:
        raise PlanError(f"{len(shards)} shards, and a matrix takes {MOST}; judge more of them --together")
    _tell_apart(shards)
    whole = _digest(shards)
    return [replace(shard, plan=whole) for shard in shards]


Judged = tuple[str, AdapterSpec, Source]
"""What `--adapter` takes, the spec behind it, and the model on which it is judged."""


def _specs(wanted: Sequence[str]) -> Iterator[tuple[str, AdapterSpec]]:
    seen: set[str] = set()
    for name in adapters.expanded(wanted):
        (spec,) = adapters.resolve([name])
        if spec.name in seen:
            raise PlanError(f"--adapter: two specs share the name {spec.name}; give each a name of its own")
        seen.add(spec.name)
        yield str(name), spec


def _own(spec: AdapterSpec, trust: bool) -> tuple[AdapterSpec, Source]:
    """An adapter on its miniature, or on the checkpoint that its spec pins."""
    if spec.fixture is None and spec.checkpoint is None:
        raise PlanError(f"adapter {spec.name} has no miniature; name a model with --checkpoint {spec.name}=...")
    if spec.fixture is None:
        return spec, _located(spec, str(spec.checkpoint), trust)
    return spec, miniature(spec, spec.fixture, trust)


def _checkpoint(text: str, trust: bool) -> tuple[str, Judged]:
    asked, _, name = text.partition("=")
    if not asked or not name:
        raise PlanError(f"--checkpoint {text}: want ADAPTER=DIR or ADAPTER=OWNER/NAME@REV; say which adapter it is for")
    named = list(_specs([asked]))
    if len(named) > 1:
        raise PlanError(f"--checkpoint {text}: is one model, so it goes with one adapter; name it once for each")
    ((asked, spec),) = named
    name = pinned(name, spec)
    return name, (asked, spec, _located(spec, name, trust))


def _located(spec: AdapterSpec, name: str, trust: bool) -> Source:
    """A checkpoint; a repository at a revision may be one that only the machines of the shards have."""
    if not trust:
        raise PlanError(f"--checkpoint {name}: holds code of its own; add --trust-remote-code to run it")
    repo, _, revision = name.partition("@")
    elsewhere = not os.path.exists(os.path.expanduser(name)) and not name.startswith((".", "/", "~"))
    if elsewhere and repo.count("/") == 1 and not revision:
        raise PlanError(
            f"--checkpoint {name}: shards on several machines may find several revisions; pin one as {repo}@REV"
        )
    try:
        folder = checkpoint.locate(name)
    except checkpoint.CheckpointError:
        if not elsewhere or repo.count("/") != 1:
            raise
        return Source(Path(name), label(name), trusted=True, miniature=False)
    checkpoint.read_config(folder, spec)
    return Source(folder, label(name), trusted=True, miniature=False)


def _environments(versions: Sequence[str]) -> list[str]:
    """Environments as pins separated by spaces; one of whatever is installed where none is asked for."""
    environments: dict[tuple[str, ...], str] = {}
    for text in versions:
        pins: dict[str, str] = {}
        for part in filter(None, map(str.strip, text.split(","))):
            name, pin = _pin(part)
            if pins.setdefault(name, pin) != pin:
                raise PlanError(f"--versions {text}: pins {name} twice; an environment has one version of it")
        if not pins:
            raise PlanError(f"--versions {text!r}: names no version; write one like transformers==5.9.0")
        same = (f"{name}=={canonicalize_version(pins[name].partition('==')[2])}" for name in sorted(pins))
        environments.setdefault(tuple(same), " ".join(pins[name] for name in sorted(pins)))
    found = list(environments.values())
    named = {text: [pin.partition("==")[0] for pin in text.split()] for text in found}
    for text in found[1:]:
        if named[text] != named[found[0]]:
            raise PlanError(
                f"--versions: {found[0]!r} and {text!r} pin different things, so a report might be of either; "
                "pin the same distributions in each"
            )
    return found or [""]


def _pin(text: str) -> tuple[str, str]:
    try:
        wanted = Distribution(text)
    except InvalidRequirement:
        raise PlanError(f"--versions {text!r}: cannot be read; write one like transformers==5.9.0") from None
    name = wanted.name.lower().replace("_", "-")
    exact = [part for part in wanted.specifier if part.operator == "==" and "*" not in part.version]
    if name not in DISTRIBUTIONS:
        raise PlanError(f"--versions {text}: no report states its version; pin some of {', '.join(DISTRIBUTIONS)}")
    if len(exact) != 1 or len(wanted.specifier) != 1 or wanted.extras or wanted.marker or wanted.url:
        raise PlanError(f"--versions {text}: is no exact version; write one like {name}==5.9.0")
    return name, f"{name}=={exact[0].version}"


def _part(judged: Sequence[Judged], name: str) -> Shard:
    """A shard that has no environment yet."""
    models = [name or str(spec.checkpoint) for _, spec, source in judged if not source.miniature]
    return Shard(
        id="",
        adapters=",".join(part for part, _, _ in judged),
        model=", ".join(dict.fromkeys(source.label for _, _, source in judged)),
        checkpoint=name,
        fetch=" ".join(model for model in models if not os.path.isdir(os.path.expanduser(model))),
        versions="",
        command="",
        contract=CONTRACT_VERSION,
        expects={spec.name: _expected(spec, source) for _, spec, source in judged},
    )


def _placed(part: Shard, environment: str, trust: bool) -> Shard:
    id = _id(part.adapters, part.checkpoint, environment)
    command = ["python", "-m", "pytest", "--adapter", part.adapters]
    command += ["--checkpoint", part.checkpoint] if part.checkpoint else []
    command += [*(["--trust-remote-code"] if trust else []), "--complete", "--conform-report", f"{id}.json"]
    return replace(part, id=id, versions=environment, command=shlex.join(command))


def _id(asked: str, name: str, environment: str) -> str:
    """Readable, fit for a file name, and the same whatever else is planned."""
    key = hashlib.sha256("\0".join((asked, name, environment)).encode()).hexdigest()[:8]
    return f"{slug(' '.join((asked, name, environment)))}-{key}"


def slug(text: str) -> str:
    """At most 80 characters that any file system and any shell takes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text)[:80].strip("-.")


def _expected(spec: AdapterSpec, source: Source) -> dict[str, Any]:
    """What the report must be about; digests are None where nobody can know them before the run."""
    request = Request((spec,), {spec.name: source}, {}, requirements(), complete=True)
    here = source.folder.is_dir()
    return {
        "label": source.label,
        "code": checkpoint.content_key(source.folder) if here else None,
        "weights": checkpoint.weights_key(source.folder) if here and not source.miniature else None,
        "cases": expectation(
            ((case.requirement.id, str(case.requirement.level), case.layout) for case in request.cases()),
            request.left_out(spec),
        ),
    }


def _tell_apart(shards: Iterable[Shard]) -> None:
    """Refuse two shards whose reports nobody could tell apart."""
    seen: dict[tuple[Any, ...], Shard] = {}
    for shard in shards:
        key = (shard.versions, *((name, part["label"]) for name, part in shard.expects.items()))
        other = seen.setdefault(key, shard)
        if other is not shard:
            what = f"{shard.adapters} on {shard.model}"
            raise PlanError(f"{what}: planned twice, and no one could tell their reports apart; give one another name")


def _digest(shards: Iterable[Shard]) -> str:
    plain = [asdict(replace(shard, plan="")) for shard in shards]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def text_of(shards: Iterable[Shard]) -> str:
    """One line of JSON, as `matrix: ${{ fromJSON(...) }}` takes it."""
    return json.dumps({"include": [asdict(shard) for shard in shards]})


def read(path: Path) -> list[Shard]:
    """A plan from its file; PlanError unless it is whole and unaltered."""
    again = "make it again with `conformance plan`"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(Shard)}
        if set(found) != {"include"} or not found["include"] or any(set(part) != names for part in found["include"]):
            raise TypeError
        shards = [Shard(**part) for part in found["include"]]
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}; {again}") from None
    except ValueError as error:
        raise PlanError(f"{path}: no JSON: {error}; {again}") from None
    except TypeError:
        raise PlanError(f"{path}: no plan; {again}") from None
    if {shard.plan for shard in shards} != {_digest(shards)}:
        raise PlanError(f"{path}: was altered, or shards were taken out; {again}")
    return shards
