"""Sessions: `nox` runs all of them, `nox -s tests` one."""

import nox

nox.options.reuse_venv = "yes"

CONSTRAINTS = ("-c", "ci/constraints.txt")


@nox.session
def tests(session: nox.Session) -> None:
    """The project's own tests."""
    session.install(*CONSTRAINTS, "-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """The main job: every adapter that the installed TransformerLens ships and the suite knows."""
    session.install(*CONSTRAINTS, ".")
    session.run("pytest", "--adapter", "all", "--complete", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and whether CONTRACT.md and contract.lock say what the registry says."""
    session.install(*CONSTRAINTS, "-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "-m", "conformance.contract", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    session.install(*CONSTRAINTS, "-e", ".[dev]")
    session.run("mypy")
