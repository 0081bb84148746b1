"""The dial: the block size of one live bridge, turned through all that fit and back. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement
from .relation import held

if TYPE_CHECKING:
    from ...facts import Dial
    from ...subject import Boot


@requirement("mask/dial", level=MUST, needs=("parity/logits",))
def dial(boot: Boot) -> Iterator[Finding]:
    """Set on one live bridge, every block size that divides the model length MUST give the relation and the logits of a
    model that is built with it, any other be refused by a ValueError that names the size, and the first one, set again,
    give the first logits bit for bit.

    Block sizes are compared on one model; a mask that stays behind compares a block size with itself.
    """
    from ...compare import close, exact
    from ...pair import blamed_on_subject

    small, dial, field = boot.small, boot.spec.dial, boot.spec.sizes.get("block")
    if dial is None or field is None:
        if dial is not None or field is not None:
            # Only a model without blocks has nothing to turn.
            yield Finding("undeclared", "dial", got="a dial or a block size", want="both in the spec, or neither")
        return
    n, first = small.sizes["n"], small.sizes["block"]
    live = small.resized({field: first})
    with blamed_on_subject():
        bridge = live.bridge
    before = {name: pair.plain for name, pair in live.pairs.items()}
    for size in [size for size in range(1, n + 1) if n % size == 0 and size != first]:
        with blamed_on_subject():
            dial.turn(bridge, size)
        built = small.resized({field: size})
        built.bridge = bridge
        for name, pair in built.pairs.items():
            case = f"{name}, block size {size}"
            yield from held(pair, case)
            yield from close("logits", pair.plain, pair.reference_logits(), pair.allowed("logits"), case=case)
    with blamed_on_subject():
        dial.turn(bridge, first)
    for size in sorted({next(size for size in range(2, n + 2) if n % size), n + 1}):
        yield from _refused(live, dial, size)
    for name, pair in live.pairs.items():
        case = f"{name}, turned back to block size {first}"
        yield from held(pair, case)
        yield from exact("logits", pair.call(), before[name], case=case)


def _refused(live: Boot, dial: Dial, size: int) -> Iterator[Finding]:
    """A block size that leaves a short last block; one that is taken is turned back at once."""
    from ...pair import blamed_on_subject

    at, want, case = "block size", "a ValueError that names the size", f"{size} of {live.sizes['n']} tokens"
    try:
        dial.turn(live.bridge, size)
    except Exception as error:
        if not isinstance(error, ValueError) or not re.search(rf"\b{size}\b", str(error)):
            yield Finding("unclear-error", at, got=f"{type(error).__name__}: {error}", want=want, case=case)
        return
    yield Finding("accepted", at, got="no error", want=want, case=case)
    with blamed_on_subject():
        dial.turn(live.bridge, live.sizes["block"])
