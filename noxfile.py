"""Sessions: `nox` runs the project's own, `nox -s matrix` every version that counts, `nox -s NAME` one.

They share one environment, `env`. A leg of the matrix is a small one on top of it, which holds another transformers or
TransformerLens and nothing else, so that it takes seconds and no second torch.
"""

import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"

CONSTRAINTS = Path("ci/constraints.txt")
PINNED = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if line[:1] not in ("", "#"))

TRANSFORMERS = (PINNED["transformers"], "5.9.0", "5.16.1", "newest")
"""The one that all else is tested with, the oldest that is supported, one in the middle, and what users get today."""

LENS = (PINNED["transformer-lens"], "4.2.0", "4.1.0", "4.0.0")
"""The one that all else is tested with, and the minors before it that ship adapters for these models."""


def cell(transformers: str, lens: str) -> str:
    """The name of a leg, between its brackets."""
    return f"transformers-{transformers}, lens-{lens}"


CELLS = (*(cell(each, LENS[0]) for each in TRANSFORMERS), cell(TRANSFORMERS[0], LENS[1]))
"""What the table shows, held against the first: either library in other versions, beside the pinned other.

4.1 and 4.0 are legs of their own alone: our complete adapter has no logit lens there.
"""

MUTATED = ("bd3lm", "bd3lm-reference", "llada@repaired", "dream@repaired")
"""Adapters into which every mutant is put, for docs/kill-matrix.md."""

DECIDED = ("transformers", "tokenizers", "huggingface-hub", "transformer-lens")
"""What a leg decides itself; everything else is as constrained."""

BELOW = """
import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "shared.pth").write_text(f"import site; site.addsitedir({sys.argv[1]!r})")
"""
"""Puts the folder of packages that is named after it below those of the environment that runs it."""


@nox.session(default=False)
def env(session: nox.Session) -> None:
    """The environment that all other sessions share."""
    _prepare(session)
    session.install("-c", str(CONSTRAINTS), "-e", ".[dev]")


def shared(session: nox.Session) -> Path:
    """Where that environment lies."""
    return session.cache_dir.parent.resolve() / "env"


def run(session: nox.Session, command: str, *arguments: str) -> None:
    """Run something that is installed there."""
    _prepare(session)
    session.run(str(shared(session) / "bin" / command), *arguments, external=True)


def _prepare(session: nox.Session) -> None:
    """Compiled modules are kept, which is what makes a second process start fast; uv finds wheels where pip does."""
    session.env["PYTHONDONTWRITEBYTECODE"] = None
    if "UV_FIND_LINKS" not in os.environ:
        local = os.environ.get("PIP_FIND_LINKS", "").split()
        # A build for GPUs is gigabytes of which nothing is used here.
        session.env.update({"UV_FIND_LINKS": ",".join(local)} if local else {"UV_TORCH_BACKEND": "cpu"})


@nox.session(venv_backend="none", requires=["env"])
def tests(session: nox.Session) -> None:
    """The project's own tests."""
    run(session, "python", "-m", "pytest", *(session.posargs or ("-n", "2")))


@nox.session(venv_backend="none", requires=["env"])
def conformance(session: nox.Session) -> None:
    """The main job: every adapter that the installed TransformerLens ships and the suite knows."""
    run(session, "python", "-m", "pytest", "--adapter", "all", "--complete", *(session.posargs or ("-n", "2")))


@nox.session(venv_backend="none", requires=["env"])
def lint(session: nox.Session) -> None:
    """Style, types, workflows and generated pages, by the hooks that run before every commit."""
    session.env["PATH"] = os.pathsep.join((str(shared(session) / "bin"), os.environ["PATH"]))
    run(session, "pre-commit", "run", "--all-files")


@nox.session(venv_backend="none", requires=["env"], default=False)
def mutants(session: nox.Session) -> None:
    """Every mutant in several adapters: makes docs/kill-matrix.md. What the incumbent says takes an hour more."""
    reports = [session.cache_dir / "mutants" / f"{name}.json" for name in MUTATED]
    for name, path in zip(MUTATED, reports, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        options = ("--mutants", "--complete", "-n", "2", "--conform-report", str(path))
        run(session, "pytest", "--adapter", name, *options)
    if "incumbent" in session.posargs:
        run(session, "python", "ci/incumbent.py")
    run(session, "python", "ci/kill_matrix.py", *map(str, reports))


@nox.session(venv_backend="none", requires=["env"], default=False)
def speed(session: nox.Session) -> None:
    """How long a run takes, over what nobody gets below: makes docs/performance.md, where nothing else is on."""
    run(session, "python", "ci/suite_speed.py", *session.posargs)


@nox.session(requires=["env"], default=False, tags=["legs"])
@nox.parametrize("lens", LENS, ids=[f"lens-{version}" for version in LENS])
@nox.parametrize("transformers", TRANSFORMERS, ids=[f"transformers-{version}" for version in TRANSFORMERS])
def leg(session: nox.Session, transformers: str, lens: str) -> None:
    """One cell of the matrix; names after `--` are adapters, all by default."""
    lay(session, wanted("transformers", transformers), wanted("transformer-lens", lens))
    judge(session, report(session, cell(transformers, lens)))


@nox.session(requires=["env"], default=False)
def upstream(session: nox.Session) -> None:
    """The newest pre-releases of transformers and TransformerLens, on the torch that all else is tested with."""
    lay(session, "transformers", "transformer-lens", "--pre")
    judge(session, report(session, "upstream"))


@nox.session(venv_backend="none", requires=["env"], default=False)
def matrix(session: nox.Session) -> None:
    """Every leg, then one table of what each version changes; names after `--` are adapters, all by default."""
    for name in CELLS:
        for ending in (".json", ".safetensors"):
            report(session, name).with_suffix(ending).unlink(missing_ok=True)
        session.notify(f"leg({name})")
    session.notify("table")


@nox.session(venv_backend="none", requires=["env"], default=False)
def table(session: nox.Session) -> None:
    """The table alone, over the reports of the legs that were run."""
    run(session, "python", "-m", "conformance", "matrix", *(str(report(session, name)) for name in CELLS))


def wanted(name: str, version: str) -> str:
    """What to install."""
    return name if version == "newest" else f"{name}=={version}"


def lay(session: nox.Session, transformers: str, lens: str, *options: str) -> None:
    """Fill a session's own environment with these alone, and put the shared one below it."""
    _prepare(session)
    session.run("python", "-c", BELOW, *map(str, shared(session).glob("lib/python*/site-packages")), silent=True)
    rest = Path(session.create_tmp()) / "constraints.txt"
    rest.write_text("".join(f"{name}=={version}\n" for name, version in PINNED.items() if name not in DECIDED))
    session.install("--upgrade", *options, "-c", str(rest), transformers)
    # What TransformerLens needs besides is there, and its torch is not to be touched.
    session.install("--upgrade", *options, "--no-deps", lens)


def judge(session: nox.Session, report: Path) -> None:
    """Record the logits of a leg, then judge its adapters."""
    adapters = [f"--adapter={name}" for name in session.posargs or ["all"]]
    report.parent.mkdir(parents=True, exist_ok=True)
    session.run("python", "-m", "conformance", "logits", str(report.with_suffix(".safetensors")), *adapters)
    session.run("python", "-m", "pytest", *adapters, "--complete", "-n", "2", "--conform-report", str(report))


def report(session: nox.Session, name: str) -> Path:
    """Where the report of a leg is written; its logits lie beside it."""
    return session.cache_dir / "matrix" / f"{name}.json"
