"""Consent: code that comes with a checkpoint runs when the user says so, and not before. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import builtins
import itertools
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...subject import Boot

WITHOUT: Mapping[str, Mapping[str, bool]] = {
    "the flag left out": {},
    "trust_remote_code=False": {"trust_remote_code": False},
}
"""How a user boots without having opted in."""

AROUND = "boot around a model"


@requirement("loading/opt-in", level=MUST, needs=("loading/boots",))
def opt_in(boot: Boot) -> Iterator[Finding]:
    """Without the opt-in a boot MUST run no code of the checkpoint and, where it needs it, raise an error on the flag.

    Code of a hub repository runs with the user's rights; a prompt that nobody answers hangs a job for the night.
    """
    small = boot.small
    for case, consent in WITHOUT.items():
        yield from _silent(small, "boot", case, consent)
        yield from _silent(small, AROUND, case, consent)
    with _canary(small.folder) as (folder, sign):
        try:
            small.boot_again(folder=folder, consent={"trust_remote_code": True})
        except Exception as error:
            yield Finding("raised", "boot", got=type(error).__name__, want="a booted bridge", case="with the opt-in")
            return
        if not sign.exists():
            # Without this the silence above would prove nothing.
            got = "code from elsewhere"
            yield Finding("not-run", "boot", got=got, want="the code of the checkpoint", case="with the opt-in")


def _silent(boot: Boot, at: str, case: str, consent: Mapping[str, bool]) -> Iterator[Finding]:
    """Findings of one boot without the opt-in; around a model that was built already it need not fail."""
    model = boot.construct() if at == AROUND else None
    refusal = None
    with _canary(boot.folder) as (folder, sign), _unattended() as asked:
        try:
            boot.boot_again(model, folder=folder, consent=consent)
        except Exception as error:
            refusal = error
        if sign.exists():
            yield Finding("ran", at, got="the checkpoint's code was executed", want="none of it", case=case)
    if asked:
        yield Finding("asked", at, got="a question on the terminal", want="an error that needs no answer", case=case)
    if model is None and refusal is None:
        yield Finding("accepted", at, got="a booted bridge", want="an error on trust_remote_code", case=case)
    elif model is None and "trust_remote_code" not in str(refusal):
        want = "an error that names trust_remote_code"
        yield Finding("unclear-error", at, got=type(refusal).__name__, want=want, case=case)


_NUMBERS = itertools.count()


@contextmanager
def _canary(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A copy of the checkpoint under a name of its own, and the file that its code would leave if it ran."""
    from ...rewriting import beginning_with, rewritten

    with tempfile.TemporaryDirectory(prefix="conformance-canary-") as scratch:
        sign = Path(scratch) / "sign"
        line = f"open({str(sign)!r}, 'w').close()"
        yield rewritten(folder, Path(scratch) / f"checkpoint_{next(_NUMBERS)}", beginning_with(line)), sign


@contextmanager
def _unattended() -> Iterator[list[str]]:
    """A terminal at which nobody sits; yields the list of what was asked there."""
    asked: list[str] = []

    class Terminal:
        def readline(self, *_: object) -> str:
            asked.append("a line")
            return ""

        read = readline

    def answer(*_: object) -> str:
        asked.append("an answer")
        raise EOFError("nobody is at the terminal")

    with mock.patch.object(builtins, "input", answer), mock.patch("sys.stdin", Terminal()):
        yield asked
