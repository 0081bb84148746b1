"""The relation: who may attend to whom, as a tensor and as behaviour. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from .cells import equal, seen_as, shown

if TYPE_CHECKING:
    from torch import Tensor

    from ...judge import Evidence
    from ...pair import Pair


@requirement("mask/relation-tensor", level=MUST)
def relation_tensor(pair: Pair) -> Iterator[Finding]:
    """The mask that the booted model holds MUST be the layout's relation, cell by cell, for its longest stream.

    One block too many is a leak of the answer; one too few is another model.
    """
    if pair.layout.mask is not None:
        yield from held(pair)
    elif not pair.relation.all() and not pair.layout.handed():
        # Only a model in which everyone may attend to everyone, or is told who may, has no mask to look at.
        yield Finding("undeclared", pair.layout.name, got="no mask tensor in the spec", want="where the model keeps it")


def held(pair: Pair, case: str = "") -> Iterator[Finding]:
    """Findings about the mask that the model holds, as far as the layout's longest stream needs it."""
    import torch

    from ...sizes import Size

    where, sizes = pair.layout.mask, pair.boot.sizes
    if where is None:
        return
    mask: Any = pair.boot.bridge.original_model
    for step in where.path.split("."):
        mask = getattr(mask, step, None)
    if not isinstance(mask, torch.Tensor) or mask.is_meta or mask.dtype is not torch.bool:
        got = str(getattr(mask, "dtype", type(mask).__name__))
        yield Finding("no-mask", where.path, got=got, want="a bool tensor with values", case=case)
        return
    start, longest = Size(where.start).of(sizes), stretched(pair, longest_of(pair))
    window = slice(start, start + longest.length)
    yield from equal(where.path, mask[window, window], longest.relation, case=case)


def longest_of(pair: Pair) -> int:
    """Tokens in the longest stream of a layout: a ragged one may go on to the model's length."""
    return max(pair.length, pair.boot.sizes.get("n", 0)) if pair.layout.ragged else pair.length


def stretched(pair: Pair, length: int) -> Pair:
    """One row of another length, the layout's own tokens again where they do not suffice."""
    ids = pair.row["input_ids"]
    return pair.other(1, 0, input_ids=ids.repeat(1, -(-length // ids.shape[1]))[:, :length])


@requirement("mask/relation", level=MUST)
def relation(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """In every layer, changing one position MUST move exactly the positions that may attend to it.

    The mask that is held may not be the mask that is used.
    """
    from ...influence import moved_in_layers, positions

    layers = moved_in_layers(pair, positions(pair))
    evidence.facts["relations"] = shown(pair.relation, layers)
    for seen in layers:
        yield from seen_as(pair.relation, seen)


@requirement("mask/closure", level=MUST, needs=("mask/relation",))
def closure(pair: Pair) -> Iterator[Finding]:
    """Over all layers and in the logits, changing one position MUST move exactly what the relation reaches.

    A path around the mask, through conditioning or a stale cache, shows only here.
    """
    from ...influence import moved_overall, positions

    for seen in moved_overall(pair, positions(pair)):
        yield from seen_as(_closure(pair), seen)


@requirement("mask/gradient", level=MUST)
def gradient(pair: Pair) -> Iterator[Finding]:
    """The gradient of one position MUST reach exactly those that it may attend to, in every layer, and over all of
    them what the relation reaches.

    Attribution runs on the backward pass, which may take another path than the forward: kernels and checkpointing
    bring a mask of their own.
    """
    from ...influence import positions, reached_in_layers, reached_overall

    # A row of the relation costs a backward, too.
    queries = positions(pair, share=2)
    for seen in reached_in_layers(pair, queries):
        yield from seen_as(pair.relation, seen)
    for seen in reached_overall(pair, queries):
        yield from seen_as(_closure(pair), seen)


def _closure(pair: Pair) -> Tensor:
    """Who reaches whom over all layers; through the residual connection every position reaches itself."""
    import torch

    step = (pair.relation | torch.eye(pair.length, dtype=torch.bool)).float()
    reached = step
    for _ in range(pair.boot.layers - 1):
        reached = ((reached @ step) > 0).float()
    return reached > 0
