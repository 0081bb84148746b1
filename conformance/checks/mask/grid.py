"""The grid: the relation at other lengths and block sizes, one and the whole text among them. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement
from .cells import seen_as
from .relation import held, longest_of, stretched

if TYPE_CHECKING:
    from ...pair import Pair
    from ...subject import Boot

LENGTH = 12
"""The other model length; it is even, and has divisors on both sides of a middle one."""


@requirement("mask/grid", level=MUST, needs=("mask/relation-tensor", "mask/relation"))
def grid(boot: Boot) -> Iterator[Finding]:
    """At other model lengths, at block sizes 1, in between and n, and in streams that end inside a block, mask and
    behaviour MUST be the layout's relation too.

    A block size that is written into the code, or a last block that is cut, is right on the model it was tried on.
    """
    small = boot.small
    for layout, pair in small.pairs.items():
        for length in _lengths(pair):
            yield from _behaviour(stretched(pair, length), pair, f"{layout}, {length} tokens")
    for sizes in _sizes(small):
        for layout, pair in small.sized(**sizes).pairs.items():
            at = ", ".join(f"{name} {size}" for name, size in sizes.items())
            yield from held(pair, f"{layout}, {at}")
            for length in _lengths(pair) or [pair.length]:
                yield from _behaviour(stretched(pair, length), small.pairs[layout], f"{layout}, {at}, {length} tokens")


def _sizes(small: Boot) -> Iterator[dict[str, int]]:
    """Model lengths with block sizes 1, a divisor in the middle, and the length; the miniature's own left out."""
    if "n" not in small.sizes:
        return
    for n in sorted({LENGTH, small.sizes["n"]}):
        proper = [size for size in range(2, n) if n % size == 0]
        blocks = [1, *proper[len(proper) // 2 :][:1], n]
        for sizes in [{"n": n, "block": block} for block in blocks] if "block" in small.sizes else [{"n": n}]:
            if {**small.sizes, **sizes} != small.sizes:
                yield sizes


def _lengths(pair: Pair) -> list[int]:
    """Streams that end early, late, and on either side of a border, where a layout's streams may end anywhere."""
    if not pair.layout.ragged:
        return []
    longest, block = longest_of(pair), pair.boot.sizes.get("block", 1)
    return sorted({1, block - 1, block, block + 1, longest - 1, longest} & {*range(1, longest + 1)})


def _behaviour(pair: Pair, judge: Pair, case: str) -> Iterator[Finding]:
    from ...influence import moved_in_layers, positions

    # What a token makes of nothing, where all before its end is padding, is asked in mask/fully-masked.
    if not bool(pair.relation.any(dim=-1).all()):
        return
    for seen in moved_in_layers(pair, positions(pair), judge):
        yield from seen_as(pair.relation, seen, case)
