"""Variants: the same code under other config fields. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement
from .taps import first_flaws, flaws

if TYPE_CHECKING:
    from ...subject import Boot


@requirement("parity/variants", level=MUST, needs=("parity/logits", "parity/taps"))
def variants(boot: Boot) -> Iterator[Finding]:
    """In every variant of the config the bridge MUST boot, and whatever is right without the variant MUST be right in
    it: the logits and every hook, in each layout.

    Checkpoints of one class differ in such fields; an adapter that was tried on one of them may be wrong on the next.
    """
    from ...pair import SubjectRaised, blamed_on_subject
    from ...spec import pattern_of

    known = frozenset(pattern_of(flaw.at) for pair in boot.small.pairs.values() for flaw in first_flaws(pair))
    for name, varied in boot.variants.items():
        case = "boot"
        try:
            with blamed_on_subject():
                varied.bridge  # noqa: B018
            for layout, pair in varied.pairs.items():
                case = layout
                for first in itertools.islice(flaws(pair, known), 1):
                    yield replace(first, at=name, case=f"{layout}, first at {first.at}")
        except SubjectRaised as error:
            yield Finding("raised", name, got=str(error), want="a bridge that runs", case=case)
