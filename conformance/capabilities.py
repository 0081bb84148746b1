"""Capabilities: exactly one of two sentences is checked: it works, or its use is refused by an error that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .finding import Finding

if TYPE_CHECKING:
    from .judge import Evidence
    from .spec import AdapterSpec

WORDS = {"loss": ("loss",), "generate": ("generat",), "denoise": ("denois", "sampler")}
"""What names a capability, in whatever form: "generation" does it as well as "generate"."""


def judged(
    spec: AdapterSpec,
    name: str,
    use: Callable[[], Any],
    works: Callable[[Any], bool],
    evidence: Evidence,
    want: str,
) -> Iterator[Finding]:
    """Findings on a capability that is used by `use`, for which `want` says in words what `works` asks for."""
    from .pair import SubjectRaised
    from .spec import Impossible

    declined = spec.capabilities.get(name)
    try:
        got = use()
    except SubjectRaised as error:
        if declined is None:
            yield Finding("raised", name, got=str(error), want="a result; or decline it under the spec's capabilities")
        elif not refuses(error.__cause__, name):
            yield Finding(
                "unclear-error", name, got=str(error), want=f"a NotImplementedError or ValueError on {name!r}"
            )
        evidence.refused = declined is not None
        return
    if declined is not None:
        why = declined.why if isinstance(declined, Impossible) else f"not yet: {declined.issue}"
        yield Finding("accepted", name, got="a result", want=f"an error that names {name!r}: {why}")
    elif not works(got):
        yield Finding("no-result", name, got=str(got)[:80], want=want)


def refuses(error: BaseException | None, name: str) -> bool:
    """Whether an error is meant as a refusal and says of what; an accident deep in torch is none."""
    from .pair import REFUSALS

    return isinstance(error, REFUSALS) and any(word in str(error).lower() for word in WORDS[name])
