"""Capabilities: what works, or is refused by name. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...capabilities import judged
from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...pair import Pair


def loss_of(pair: Pair) -> Any:
    """What the bridge answers who asks for its loss."""
    return pair.call(return_type="loss")


def generated(pair: Pair) -> Any:
    """What the bridge answers who asks for a next token."""
    return pair.guarded(pair.boot.bridge.generate, max_new_tokens=1)


@requirement("loading/loss", level=MUST)
def loss(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """`return_type="loss"` MUST return a finite number, or, where the spec declines it, raise an error that names it.

    A shifted causal loss of a denoising model is a number without a meaning.
    """

    def finite(got: Any) -> bool:
        return bool(got.isfinite().all())

    yield from judged(pair.boot.spec, "loss", lambda: loss_of(pair), finite, evidence, "a finite number")


@requirement("loading/generate", level=MUST)
def generate(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """`bridge.generate` MUST add a token, or, where the spec declines it, raise an error that names it.

    Next-token sampling from a denoising model yields text that the model never meant.
    """

    def longer(got: Any) -> bool:
        return bool(getattr(got, "shape", (0,))[-1] == pair.length + 1)

    yield from judged(pair.boot.spec, "generate", lambda: generated(pair), longer, evidence, "one token more")
