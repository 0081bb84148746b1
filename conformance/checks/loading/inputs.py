"""Inputs: what a forward refuses. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...pair import Pair


@requirement("loading/unknown-keyword", level=MUST)
def unknown_keyword(pair: Pair) -> Iterator[Finding]:
    """A keyword that the model does not know MUST raise an error that names it.

    A misspelt timestep or mask that is swallowed gives the logits of another experiment.
    """
    from ...pair import SubjectRaised

    try:
        pair.call(conformance_misspelt=1)
    except SubjectRaised as error:
        if "conformance_misspelt" not in str(error):
            yield Finding("unclear-error", "forward", got=str(error), want="an error that names the keyword")
        return
    yield Finding("accepted", "forward", got="logits", want="an error that names the keyword")
