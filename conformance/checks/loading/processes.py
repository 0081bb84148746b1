"""Processes: the same boot in another one, and what it does to its own. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, Occasion, requirement

if TYPE_CHECKING:
    from ...elsewhere import Told
    from ...subject import Boot

SHOWN = 3
"""How many names a finding spells out."""


@requirement("loading/two-processes", level=MUST, needs=("loading/two-boots",), run=Occasion.COMPLETE)
def two_processes(boot: Boot) -> Iterator[Finding]:
    """A boot MUST be equal bit for bit in another process, in every tensor and in the logits.

    What hangs on a hash seed or on unused memory agrees within a process, and no figure of a paper is found again.
    """
    from ... import elsewhere

    one, other = elsewhere.subjects(boot)
    if error := one.error or other.error:
        yield _raised(error)
        return
    for name in _apart(one.tensors, other.tensors):
        yield Finding("not-bit-equal", name, got="differs between two processes", want="equal")
    for layout in _apart(one.logits, other.logits):
        yield Finding("not-bit-equal", "logits", got="differ between two processes", want="equal", case=layout)


@requirement("loading/process-state", level=MUST, needs=("loading/two-processes",), run=Occasion.COMPLETE)
def process_state(boot: Boot) -> Iterator[Finding]:
    """A bridge that is booted, run and deleted MUST leave its process as transformers' own loading of the model does.

    What stays behind, such as an entry in a shared registry, changes every model that is loaded after it. The control
    imports TransformerLens too: what the import alone changes, filters of warnings and a level of logging, is not an
    adapter's doing.
    """
    from ... import elsewhere

    subject, control = elsewhere.subject_and_control(boot)
    if subject.error:
        yield _raised(subject.error)
        return
    for probe in subject.before:
        if changed := _changed(subject, control, probe):
            got, want = (_said(told.after[probe], changed) for told in (subject, control))
            yield Finding("changed", probe, got=got, want=want)


def _raised(error: str) -> Finding:
    return Finding("raised", "boot", got=error, want="a booted bridge", case="in a process of its own")


def _apart(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Names whose digests differ, or are of something without values."""
    return [name for name in sorted(one.keys() | other.keys()) if not one.get(name) or one.get(name) != other.get(name)]


def _changed(subject: Told, control: Told, probe: str) -> list[str]:
    """What the subject changed and left otherwise than the control."""
    states = subject.before[probe], subject.after[probe], control.after[probe]
    before, after, plain = map(_named, states)
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name) != plain.get(name)]


def _named(value: str | Mapping[str, str]) -> Mapping[str, str]:
    return {"": value} if isinstance(value, str) else value


def _said(value: str | Mapping[str, str], names: list[str]) -> str:
    """The values of some names, in one line."""
    if isinstance(value, str):
        return value
    said = [f"{name}: {value.get(name, 'absent')}" for name in names[:SHOWN]]
    return ", ".join(said) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
