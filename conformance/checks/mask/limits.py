"""Limits and halves: what one layout says is what another layout, or another model, says. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...facts import Limit
    from ...pair import Pair
    from ...subject import Boot

MOST_BLOCKS = 8
"""Noisy blocks of a long text that are held against the layout alone."""


@requirement("mask/limits", level=MUST, needs=("mask/grid", "parity/logits"))
def limits(boot: Boot) -> Iterator[Finding]:
    """With blocks of the size of a limit, the bridge's logits MUST be those of the model that it becomes there.

    One block is full diffusion, blocks of one are autoregression: what is known of these models is only then a
    yardstick for this one.
    """
    from ...compare import PATHS, close

    for limit in boot.spec.limits:
        got, alone = _in_the_limit(boot.small, limit)
        yield from close("logits", got, alone.reference_logits(), alone.allowed("logits", PATHS), case=limit.name)


def _in_the_limit(small: Boot, limit: Limit) -> tuple[Tensor, Pair]:
    """The bridge's logits at the limit's positions, and the other model on these positions alone."""
    from ...sizes import Size

    subject = small.sized(block=Size(limit.block).of(small.sizes))
    pair, other = subject.pairs[limit.layout], small_variant(small, limit.variant)
    bounds = limit.positions or ("0", str(pair.length))
    start, stop = (Size(bound).of(subject.sizes) for bound in bounds)
    before = pair.returned.start
    got = pair.call()[:, start - before : stop - before]
    return got, given(other, pair, pair.inputs["input_ids"][:, start:stop])


def small_variant(small: Boot, name: str) -> Pair:
    """A variant of the miniature, in the one layout in which it is called."""
    variant = small.variants[name]
    return variant.pairs[variant.spec.layouts[0].name]


def given(pair: Pair, like: Pair, ids: Tensor) -> Pair:
    """A pair on these tokens, with the arguments of another that are drawn."""
    from ...layout import PerRow

    drawn = [name for name, value in pair.layout.arguments.items() if isinstance(value, PerRow)]
    shared: dict[str, Any] = {name: like.inputs[name] for name in drawn if name in like.inputs}
    return pair.other(len(ids), 0, input_ids=ids, **shared)


@requirement("mask/consistency", level=MUST, needs=("loading/runs",))
def consistency(boot: Boot) -> Iterator[Finding]:
    """In a layout that holds a text twice, the logits of a noisy block MUST be those of the block alone, behind the
    clean blocks before it.

    Likelihoods are computed in the one layout and samples drawn in the other; where they differ, they are of two
    models.
    """
    from ...compare import PATHS, close
    from ...influence import spread
    from ...sizes import Size

    halves = boot.spec.halves
    if halves is None:
        return
    pair, alone = boot.pairs[halves.layout], boot.pairs[halves.alone]
    noisy, clean = (
        pair.inputs["input_ids"][:, slice(*(Size(bound).of(boot.sizes) for bound in bounds))]
        for bounds in (halves.noisy, halves.clean)
    )
    length = noisy.shape[1]
    size = boot.sizes.get("block", length)
    first = Size(halves.noisy[0]).of(boot.sizes) - pair.returned.start
    for block in spread(range(-(-length // size)), MOST_BLOCKS, random.Random(0)):
        start, stop = block * size, min((block + 1) * size, length)
        ids = _joined(clean[:, :start], noisy[:, start:stop])
        want = given(alone, pair, ids).call()[:, start - stop :]
        got = pair.plain[:, first + start : first + stop]
        yield from close("logits", got, want, pair.allowed("logits", PATHS), case=f"block {block}")


def _joined(*parts: Tensor) -> Tensor:
    import torch

    return torch.cat(parts, dim=1)
