"""Capabilities: what works, or is refused by name. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...pair import Pair


@requirement("loading/loss", level=MUST)
def loss(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """`return_type="loss"` MUST return a finite number, or, where the spec declines it, raise an error that names it.

    A shifted causal loss of a denoising model is a number without a meaning.
    """

    def finite(got: Any) -> bool:
        return bool(got.isfinite().all())

    yield from _capability(pair, "loss", lambda: pair.call(return_type="loss"), finite, evidence)


@requirement("loading/generate", level=MUST)
def generate(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """`bridge.generate` MUST add a token, or, where the spec declines it, raise an error that names it.

    Next-token sampling from a denoising model yields text that the model never meant.
    """

    def use() -> Any:
        return pair.guarded(pair.boot.bridge.generate, max_new_tokens=1)

    def longer(got: Any) -> bool:
        return bool(getattr(got, "shape", (0,))[-1] == pair.length + 1)

    yield from _capability(pair, "generate", use, longer, evidence)


def _capability(
    pair: Pair, name: str, use: Callable[[], Any], works: Callable[[Any], bool], evidence: Evidence
) -> Iterator[Finding]:
    """Exactly one of two sentences is checked: it works, or its use is refused by a typed error that names it."""
    from ...pair import SubjectRaised
    from ...spec import Impossible

    declined = pair.boot.spec.capabilities.get(name)
    try:
        got = use()
    except SubjectRaised as error:
        if declined is None:
            yield Finding("raised", name, got=str(error), want="a result; or decline it under the spec's capabilities")
        elif not _refusal(error.__cause__, name):
            yield Finding(
                "unclear-error", name, got=str(error), want=f"a NotImplementedError or ValueError on {name!r}"
            )
        evidence.refused = declined is not None
        return
    if declined is not None:
        why = declined.why if isinstance(declined, Impossible) else f"not yet: {declined.issue}"
        yield Finding("accepted", name, got="a result", want=f"an error that names {name!r}: {why}")
    elif not works(got):
        yield Finding("no-result", name, got=str(got)[:80], want="a finite loss, or one token more")


def _refusal(error: BaseException | None, name: str) -> bool:
    """Whether an error is meant as a refusal and says of what; an accident deep in torch is none."""
    from ...pair import REFUSALS

    # "generation" names it as well as "generate" does.
    return isinstance(error, REFUSALS) and name.rstrip("e") in str(error).lower()
