"""mask: who may attend to whom, as a tensor and as behaviour. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ..subject import Pair

SIGNIFICANT = 100.0
"""A position has moved when it moves by more than this many budgets; rounding stays below one."""


@requirement("mask/relation-tensor", level=MUST)
def relation_tensor(pair: Pair) -> Iterator[Finding]:
    """The mask that the booted model holds MUST be the layout's relation, cell by cell.

    One block too many is a leak of the answer; one too few is another model.
    """
    from ..spec import Size

    where = pair.layout.mask
    if where is None:
        # Only a model in which everyone may attend to everyone has no mask to look at.
        if not _relation(pair).all():
            yield Finding("undeclared", pair.layout.name, got="no mask tensor in the spec", want="where the model keeps it")
        return
    held: Any = pair.boot.bridge.original_model
    for step in where.path.split("."):
        held = getattr(held, step)
    window = slice(Size(where.start).of(pair.boot.sizes), Size(where.stop).of(pair.boot.sizes))
    yield from _compare(where.path, held[window, window], _relation(pair))


@requirement("mask/relation", level=MUST, needs=("hooks/edits-reach",))
def relation(pair: Pair) -> Iterator[Finding]:
    """In every layer, changing one position MUST move exactly the positions that may attend to it.

    The mask that is held may not be the mask that is used.
    """
    for layer in range(pair.boot.layers):
        moved = _influence(pair, layer, layer)
        yield from _compare(f"blocks.{layer}", moved, _relation(pair) | _itself(pair))


@requirement("mask/closure", level=MUST, needs=("mask/relation",))
def closure(pair: Pair) -> Iterator[Finding]:
    """Over all layers, changing one position MUST move exactly what the relation reaches in as many steps.

    A path around the mask, through conditioning or a stale cache, shows only here.
    """
    step = (_relation(pair) | _itself(pair)).float()
    reached = step
    for _ in range(pair.boot.layers - 1):
        reached = ((reached @ step) > 0).float()
    yield from _compare("logits", _influence(pair, 0, pair.boot.layers - 1), reached > 0)


def _relation(pair: Pair) -> Tensor:
    """The closed form, bool `query key`."""
    import torch

    index = torch.arange(pair.length)
    sizes = pair.boot.sizes
    allowed: Tensor = pair.layout.relation(index[:, None], index[None, :], sizes["n"], sizes["block"])
    return allowed


def _itself(pair: Pair) -> Tensor:
    """The residual connection: every position reaches itself."""
    import torch

    return torch.eye(pair.length, dtype=torch.bool)


def _influence(pair: Pair, first: int, last: int) -> Tensor:
    """Who moves when one position changes before layer `first`, read after layer `last`; bool `query key`.

    One forward: row k of the batch has position k changed, the last row is left alone.
    """
    import torch

    boot = pair.boot
    before, after = (
        boot.bridge.hook_dict[pattern.replace("{layer}", str(layer))].name
        for pattern, layer in zip(boot.spec.streams, (first, last), strict=True)
    )
    seen: list[Tensor] = []

    def hook(tensor: Tensor, hook: Any) -> Tensor | None:
        if hook.name == after:
            seen.append(tensor.detach().clone())
            return None
        generator = torch.Generator().manual_seed(first)
        edited, index = tensor.clone(), torch.arange(pair.length)
        edited[index, index] += 4 * tensor.std() * torch.randn(tensor.shape[1:], generator=generator)
        return edited

    pair.edited([before, after], hook, pair.batched(pair.length + 1))
    apart = (seen[0][:-1] - seen[0][-1:]).abs().amax(dim=-1)
    return (apart > SIGNIFICANT * pair.allowed(after)).T


def _compare(at: str, got: Tensor, want: Tensor) -> Iterator[Finding]:
    """One finding for a whole relation; it names the first wrong cell and draws both."""
    if got.shape != want.shape:
        yield Finding("relation", at, got=f"{list(got.shape)} cells", want=f"{list(want.shape)} cells")
        return
    wrong = (got != want).nonzero().tolist()
    if wrong:
        query, key = wrong[0]
        sees = "attends" if got[query, key] else "does not attend"
        yield Finding(
            "relation",
            at,
            got=f"{len(wrong)} wrong cells, first: query {query} {sees} to key {key}",
            want="the layout's relation",
            detail=_drawn(got, want),
        )


def _drawn(got: Tensor, want: Tensor) -> str:
    """Rows are queries, columns keys: `#` allowed, `.` not, `+` too much, `-` missing."""
    glyph = {(True, True): "#", (False, False): ".", (True, False): "+", (False, True): "-"}
    rows = zip(got.tolist(), want.tolist(), strict=True)
    return "\n".join("".join(glyph[pair] for pair in zip(*row, strict=True))[:72] for row in rows)
