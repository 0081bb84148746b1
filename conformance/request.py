"""What a run was asked for: adapters, checkpoint, files to write; validated before anything is loaded."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import adapters, checkpoint, equivalents, ledger, overrides
from .requirement import Occasion, Requirement, requirements
from .spec import AdapterSpec, printable

if TYPE_CHECKING:
    from .mutants import Mutant


class RequestError(ValueError):
    """A run that cannot start; the message is one line and ends with what to do."""


@dataclass(frozen=True, slots=True)
class Case:
    """One verdict that is expected: a requirement, of an adapter, in a layout where it has any."""

    requirement: Requirement
    spec: AdapterSpec
    layout: str | None

    @property
    def parameters(self) -> str:
        """The bracket of its node id: `bd3lm-train`."""
        return f"{self.spec.name}-{self.layout}" if self.layout else self.spec.name

    @property
    def node(self) -> str:
        """Its pytest node id, the same from any folder: `conformance.hooks::fires[bd3lm-train]`."""
        return f"{self.requirement.node}[{self.parameters}]"

    def properties(self) -> list[tuple[str, str]]:
        """What it is, as pytest's properties: JUnit's readers need not take ids apart."""
        told = [
            ("adapter", self.spec.name),
            ("requirement", self.requirement.id),
            ("level", str(self.requirement.level)),
        ]
        return [*told, ("layout", self.layout)] if self.layout else told


@dataclass(frozen=True, slots=True)
class Placed:
    """One mutant that is to be put into an adapter."""

    mutant: Mutant
    spec: AdapterSpec

    @property
    def node(self) -> str:
        """Its pytest node id, the same from any folder: `conformance.mutants.hooks::fires_twice[bd3lm]`."""
        family, _, name = self.mutant.id.partition("/")
        return f"conformance.mutants.{family}::{name.replace('-', '_')}[{self.spec.name}]"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an adapter's model comes from: a folder shaped like a hub repository, and what to call it."""

    folder: Path
    label: str
    trusted: bool
    miniature: bool

    def with_weights(self, spec: AdapterSpec) -> Path:
        """The folder that is judged; a miniature's is made when it is first needed."""
        return checkpoint.materialised(self.folder, spec) if self.miniature else self.folder


@dataclass(frozen=True, slots=True)
class Request:
    """A run: what to judge, on which models, by which ledgers, and what to write."""

    specs: tuple[AdapterSpec, ...]
    sources: Mapping[str, Source]
    ledgers: Mapping[str, ledger.Ledger]
    registry: Mapping[str, Requirement]
    report: Path | None = None
    html: Path | None = None
    deviations: Path | None = None
    complete: bool = False
    renew: bool = False
    mutants: bool = False
    equivalents: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def cases(self) -> Iterator[Case]:
        """Every expected verdict, in canonical order: adapter, family, requirement, layout."""
        for spec in self.specs:
            for required in self.registry.values():
                if not self.leaves_out(required, spec):
                    yield from _cases(required, spec)

    def placed(self) -> Iterator[Placed]:
        """Every mutant of every adapter where mutants are asked for, family by family.

        Those of requirements that only a complete run judges take as long as they do, and belong to such a run.
        """
        if not self.mutants:
            return
        from .mutants import mutants

        for spec in self.specs:
            for mutant in mutants().values():
                if self.complete or self.registry[mutant.kills].run is not Occasion.COMPLETE:
                    yield Placed(mutant, spec)

    def leaves_out(self, required: Requirement, spec: AdapterSpec) -> bool:
        """Whether this run does not judge a requirement, because nobody asked for what that takes."""
        if required.run is Occasion.CHECKPOINT:
            return self.sources[spec.name].miniature or spec.fixture is None
        return required.run is Occasion.COMPLETE and not (self.complete or self.renew)

    def left_out(self, spec: AdapterSpec) -> dict[str, str]:
        """What it does not judge of an adapter, and the option that would have it judged, by id."""
        return {id: str(required.run) for id, required in self.registry.items() if self.leaves_out(required, spec)}

    def snapshots(self, spec: AdapterSpec) -> Iterator[str]:
        """Names of the committed snapshots of an adapter, of whatever this run leaves out too."""
        yield from _snapshots(spec, self.registry)


def _cases(required: Requirement, spec: AdapterSpec) -> Iterator[Case]:
    for layout in spec.layouts if required.per_layout else (None,):
        yield Case(required, spec, layout.name if layout else None)


def _snapshots(spec: AdapterSpec, registry: Mapping[str, Requirement]) -> Iterator[str]:
    for required in registry.values():
        if "snapshot" in required.parameters:
            yield from (f"{required.check.__name__}[{case.parameters}]" for case in _cases(required, spec))


def make(
    wanted: Sequence[str | AdapterSpec],
    *,
    checkpoint_name: str | None = None,
    trust: bool = False,
    report: str | None = None,
    html: str | None = None,
    deviations: str | None = None,
    complete: bool = False,
    renew: bool = False,
    mutants: bool = False,
) -> Request:
    """A validated request for names and specs; loads no model unless a checkpoint's tensor names have to be compared.

    Raises:
        RequestError: one line: what is wrong, where, and what to do next.
    """
    try:
        specs = tuple(adapters.resolve(wanted))
        for spec in specs:
            _find_functions(spec)
        registry = requirements()
        ledgers = {spec.name: ledger.load(spec, registry) for spec in specs}
        for spec in specs:
            overrides.read(spec.snapshots, set(_snapshots(spec, registry)))
        sources = {spec.name: _source(spec, checkpoint_name, trust, alone=len(specs) == 1) for spec in specs}
        proofs = _equivalents(specs) if mutants else {}
    except (
        adapters.UnknownAdapter,
        ledger.LedgerError,
        overrides.OverrideError,
        equivalents.EquivalentError,
        checkpoint.CheckpointError,
    ) as error:
        raise RequestError(str(error)) from None
    if len(sources) < len(specs):
        named = [spec.name for spec in specs]
        twice = sorted({name for name in named if named.count(name) > 1})
        raise RequestError(f"--adapter: two specs share the name {', '.join(twice)}; give each a name of its own")
    written = _written({"--conform-report": report, "--conform-html": html, "--write-deviations": deviations})
    return Request(
        specs=specs,
        sources=sources,
        ledgers=ledgers,
        registry=registry,
        report=written["--conform-report"],
        html=written["--conform-html"],
        deviations=written["--write-deviations"],
        complete=complete,
        renew=renew,
        mutants=mutants,
        equivalents=proofs,
    )


def _equivalents(specs: Sequence[AdapterSpec]) -> dict[str, dict[str, str]]:
    from .mutants import mutants

    return {spec.name: equivalents.read(equivalents.path_of(spec), mutants()) for spec in specs}


def _find_functions(spec: AdapterSpec) -> None:
    """Refuse a "module:name" that is nowhere. The modules are heavy, so they are read and not imported."""
    for fact in ("oracle", "repair", "adapter"):
        path = getattr(spec, fact)
        module, _, name = path.partition(":") if isinstance(path, str) else ("", "", "")
        if not isinstance(path, str) or hasattr(sys.modules.get(module), name or ":"):
            continue
        file = _file_of(module)
        if file is None:
            raise RequestError(f"spec {spec.name!r}: {fact} is {path!r}, and there is no module {module!r}")
        if not name or not re.search(rf"\b{re.escape(name)}\b", file.read_text(encoding="utf-8")):
            raise RequestError(f"spec {spec.name!r}: {fact} is {path!r}, and {module} has no {name!r}; write its name")


def _file_of(module: str) -> Path | None:
    """Where a module is written; packages above it are not imported either."""
    top, *below = module.split(".")
    try:
        found = importlib.util.find_spec(top) if top else None
    except ValueError:
        return None
    homes = [*((found.submodule_search_locations if found else None) or ())]
    files = [Path(home, *below, "__init__.py") for home in homes]
    files += [Path(home, *below).with_suffix(".py") for home in homes if below]
    files += [Path(found.origin)] if found is not None and found.origin and not below else []
    return next((file for file in files if file.is_file()), None)


def _source(spec: AdapterSpec, asked: str | None, trust: bool, alone: bool) -> Source:
    if asked is not None and not alone:
        raise RequestError("--checkpoint is one model, so it goes with one adapter; name it with --adapter")
    if asked is not None:
        return _checkpoint(spec, pinned(asked, spec), trust)
    if spec.fixture is not None:
        return miniature(spec, spec.fixture, trust)
    if spec.checkpoint is not None:
        return _checkpoint(spec, spec.checkpoint, trust)
    raise RequestError(f"adapter {spec.name} has no miniature; name a model with --checkpoint")


def miniature(spec: AdapterSpec, name: str, trust: bool) -> Source:
    """A model that came with the spec; RequestError or CheckpointError when it cannot be used."""
    fixture = checkpoint.fixture_folder(name)
    if not trust and not checkpoint.ships_with(fixture, spec):
        raise RequestError(f"{fixture}: holds code that did not come with the spec; add --trust-remote-code to run it")
    checkpoint.read_config(fixture, spec)
    return Source(fixture, label=f"miniature {fixture.name}", trusted=True, miniature=True)


def _checkpoint(spec: AdapterSpec, name: str, trust: bool) -> Source:
    folder = checkpoint.locate(name)
    config = checkpoint.read_config(folder, spec)
    checkpoint.shapes(folder)
    if not trust:
        raise RequestError(f"--checkpoint {name}: holds code of its own; add --trust-remote-code to run it")
    checkpoint.check_weights(folder, spec, config)
    return Source(folder, label=label(name), trusted=True, miniature=False)


def label(name: str) -> str:
    """What a report calls a checkpoint: a path differs from host to host, and a report may not."""
    folder = Path(os.path.expanduser(name))
    return f"checkpoint {printable(folder.resolve().name if folder.is_dir() else name)}"


def pinned(name: str, spec: AdapterSpec) -> str:
    """The name of a checkpoint, at the revision that the spec states for this model unless another is asked for."""
    repo, _, revision = (spec.checkpoint or "").partition("@")
    return f"{repo}@{revision}" if revision and name == repo else name


def _written(asked: Mapping[str, str | None]) -> dict[str, Path | None]:
    """The file that each option names, all of them different; of these only a draft of a ledger must be new."""
    files = {option: _writable(option, text, fresh=option == "--write-deviations") for option, text in asked.items()}
    by_path: dict[Path, str] = {}
    for option, path in files.items():
        if path is not None and by_path.setdefault(path, option) != option:
            raise RequestError(f"{by_path[path]} and {option} both name {asked[option]}; name two files")
    return files


def _writable(option: str, text: str | None, *, fresh: bool = False) -> Path | None:
    """The path, once it is known that a file can be put there."""
    if text is None:
        return None
    path = Path(os.path.expanduser(text)).absolute()
    if os.path.isdir(path):
        raise RequestError(f"{option} {text or repr(text)}: is a folder; name a file in it")
    if fresh and os.path.exists(path):
        raise RequestError(f"{option} {text}: exists and may hold reasons that someone wrote; name a new file")
    if not os.path.isdir(path.parent):
        raise RequestError(f"{option} {text}: there is no folder {path.parent}; make it first")
    if os.path.exists(path) and not os.path.isfile(path):
        # A report is renamed into its place, which would put a file where a device was.
        raise RequestError(f"{option} {text}: is no regular file; name one")
    try:
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-").close()
    except OSError as error:
        raise RequestError(f"{option} {text}: cannot write there: {error.strerror}; name another place") from None
    return path
