"""interventions: an edit does what the same edit does in the equations. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from ..pair import Pair


@requirement("interventions/edits", level=MUST, needs=("hooks/fires",))
def edits(pair: Pair) -> Iterator[Finding]:
    """What a hook returns MUST take the place of the tensor, whole and once: an edit moves the logits as it should.

    An edit that is discarded looks like a component that does not matter; one that is halved, like one that
    matters less. How far logits should move is what the oracle says for the same edit.
    """
    from .. import edits
    from ..compare import close

    live = [name for name in dict.fromkeys(pair.observed.order) if pair.observed.taps[name][0].is_floating_point()]
    for effect in edits.effects(pair, live):
        discarded = not effect.moved > 10 * pair.allowed("logits")
        if effect.want is None:
            if discarded:
                yield Finding("edit-discarded", effect.name, got="the same logits", want="other logits")
            continue
        code = "edit-discarded" if discarded else "edit-changed"
        for finding in close(effect.name, effect.got, effect.want, effect.allowed):
            yield replace(finding, code=code)
