"""The relation: who may attend to whom, as a tensor and as behaviour. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...pair import Pair

SIGNIFICANT = 4.0
"""A position has moved when it moves by more than this many budgets.

Measured, on the miniature and on 512 tokens in six layers: who may not attend moves by at most 0.2 budgets, who may
by at least 60, and by less the longer the stream is, because attention spreads.
"""

MOST_KEYS = 64
"""Positions of a long stream that are perturbed."""

MOST_TOKENS = 4096
"""Tokens in one forward of perturbed rows."""


@requirement("mask/relation-tensor", level=MUST)
def relation_tensor(pair: Pair) -> Iterator[Finding]:
    """The mask that the booted model holds MUST be the layout's relation, cell by cell.

    One block too many is a leak of the answer; one too few is another model.
    """
    import torch

    from ...sizes import Size

    where = pair.layout.mask
    if where is None:
        # Only a model in which everyone may attend to everyone has no mask to look at.
        if not pair.relation.all():
            yield Finding(
                "undeclared", pair.layout.name, got="no mask tensor in the spec", want="where the model keeps it"
            )
        return
    held: Any = pair.boot.bridge.original_model
    for step in where.path.split("."):
        held = getattr(held, step, None)
    if not isinstance(held, torch.Tensor) or held.is_meta or held.dtype is not torch.bool:
        yield Finding("no-mask", where.path, got=str(getattr(held, "dtype", held)), want="a bool tensor with values")
        return
    start = Size(where.start).of(pair.boot.sizes)
    window = slice(start, start + pair.length)
    yield from _compare(where.path, held[window, window], pair.relation)


@requirement("mask/relation", level=MUST, needs=("interventions/edits",))
def relation(pair: Pair) -> Iterator[Finding]:
    """In every layer, changing one position MUST move exactly the positions that may attend to it.

    The mask that is held may not be the mask that is used.
    """
    keys = _keys(pair)
    for layer in range(pair.boot.layers):
        moved, _ = _influence(pair, layer, layer, keys)
        yield from _compare(f"blocks.{layer}", moved, (pair.relation | _itself(pair))[:, keys], keys)


@requirement("mask/closure", level=MUST, needs=("mask/relation",))
def closure(pair: Pair) -> Iterator[Finding]:
    """Over all layers and in the logits, changing one position MUST move exactly what the relation reaches.

    A path around the mask, through conditioning or a stale cache, shows only here.
    """
    step = (pair.relation | _itself(pair)).float()
    reached = step
    for _ in range(pair.boot.layers - 1):
        reached = ((reached @ step) > 0).float()
    keys = _keys(pair)
    moved, moved_logits = _influence(pair, 0, pair.boot.layers - 1, keys)
    want = (reached > 0)[:, keys]
    yield from _compare("all layers", moved, want, keys)
    yield from _compare("logits", moved_logits, want[pair.returned], keys)


def _itself(pair: Pair) -> Tensor:
    """The residual connection: every position reaches itself."""
    import torch

    return torch.eye(pair.length, dtype=torch.bool)


def _keys(pair: Pair) -> list[int]:
    """Positions to perturb: all of a short stream, else seeded ones with both sides of every border among spans."""
    import torch

    from ...sizes import Size

    if pair.length <= MOST_KEYS:
        return list(range(pair.length))
    ends = torch.tensor([Size(span.length).of(pair.boot.sizes) for span in pair.layout.stream]).cumsum(0)
    borders = {int(end) + step for end in ends for step in (-1, 0) if end + step < pair.length} | {0}
    drawn = torch.randperm(pair.length, generator=torch.Generator().manual_seed(0)).tolist()
    return sorted([*borders, *(key for key in drawn if key not in borders)][:MOST_KEYS])


def _influence(pair: Pair, first: int, last: int, keys: list[int]) -> tuple[Tensor, Tensor]:
    """Who moves when one position changes before layer `first`: after layer `last`, and in the logits.

    Both are bool `query key`. Row k of a batch has position `keys[k]` changed, its last row is left alone; a short
    stream needs one forward.
    """
    import torch

    before, after = (
        _stream(pair, pattern.replace("{layer}", str(layer)))
        for pattern, layer in zip(pair.boot.spec.streams, (first, last), strict=True)
    )
    columns: list[Tensor] = []
    logits: list[Tensor] = []
    rows = max(1, MOST_TOKENS // pair.length - 1)
    for start in range(0, len(keys), rows):
        chosen = torch.tensor(keys[start : start + rows])

        def hook(tensor: Tensor, hook: Any, chosen: Tensor = chosen) -> Tensor | None:
            if hook.name == after:
                columns.append(_moved(tensor))
                return None
            noise = torch.randn(len(chosen), tensor.shape[-1], generator=torch.Generator().manual_seed(first))
            edited = tensor.clone()
            edited[torch.arange(len(chosen)), chosen] += 4 * tensor.std() * noise
            return edited

        logits.append(_moved(pair.edited([before, after], hook, pair.batched(len(chosen) + 1))))
    found = ((after, columns), ("logits", logits))
    in_stream, in_logits = ((torch.cat(parts) > SIGNIFICANT * pair.allowed(name)).T for name, parts in found)
    return in_stream, in_logits


def _stream(pair: Pair, name: str) -> str:
    """The canonical name of a hook on the residual stream, once it is known to fire."""
    from ...pair import SubjectRaised

    point = pair.boot.bridge.hook_dict.get(name)
    if point is None or point.name not in pair.observed.taps:
        raise SubjectRaised(f"{name} does not fire, so nothing is known of the residual stream")
    return str(point.name)


def _moved(tensor: Tensor) -> Tensor:
    """How far each position lies from that of the last row, `row position`."""
    return (tensor[:-1] - tensor[-1:]).abs().amax(dim=-1).detach()


def _compare(at: str, got: Tensor, want: Tensor, keys: Sequence[int] | None = None) -> Iterator[Finding]:
    """One finding for a whole relation; it names the first wrong cell and draws both. Columns are `keys`, or all."""
    if got.shape != want.shape:
        yield Finding("relation", at, got=f"{list(got.shape)} cells", want=f"{list(want.shape)} cells")
        return
    wrong = (got != want).nonzero().tolist()
    if wrong:
        query, column = wrong[0]
        sees = "attends" if got[query, column] else "does not attend"
        key = column if keys is None else keys[column]
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
