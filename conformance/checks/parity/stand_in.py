"""The stand-in: the miniature's code is the model's, which a miniature alone cannot show. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, Occasion, requirement
from .taps import apart

if TYPE_CHECKING:
    from ...pair import Pair


@requirement("parity/stand-in", level=MUST, needs=("parity/oracle",), run=Occasion.CHECKPOINT)
def stand_in(pair: Pair) -> Iterator[Finding]:
    """With a checkpoint's weights the bundled miniature's code MUST give the same logits and taps as its own code.

    Whatever a miniature proves holds of the released model only as far as both compute the same.
    """
    from ...compare import PATHS
    from ...taps import record_modules

    boot, released = pair.boot, pair.reference
    ours = record_modules(
        lambda: pair.reference_logits(model=boot.stand_in),
        boot.stand_in,
        boot.spec.points,
        boot.layers,
        against=released,
    )
    for name in (*released.taps, "logits"):
        if name not in ours:
            yield Finding("missing", name, got="no such tap in the miniature's code", want="one, as in the model")
            continue
        yield from apart(name, ours, released.joined(name), pair.allowed(name, PATHS), got="the miniature's code's")
