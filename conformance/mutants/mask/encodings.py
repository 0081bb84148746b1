"""Masks that are taken and read another way; each defect sits in a bridge that honours masks in every encoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, masked, on_bridge
from .relation import holder

if TYPE_CHECKING:
    from torch import Tensor

    from ...pair import Pair
    from ...subject import Boot

Read = Callable[["Tensor", "Tensor"], "Tensor"]
"""`read(mask, tokens)`: who may attend to whom, bool `batch query key`, or floats of that shape that are added."""

Finish = Callable[["Tensor", "Tensor"], "Tensor"]
"""`finish(logits, nothing)`: what becomes of logits, given which of them, `batch pos 1`, had nothing to attend to."""


def understood(mask: Tensor, tokens: Tensor) -> Tensor:
    """What a mask means, in whichever encoding; ValueError where heads differ, for which there is no room here."""
    spread = spread_out(mask, tokens)
    if spread.is_floating_point() and not (spread > 0).any():
        return spread == 0
    return spread != 0


def spread_out(mask: Tensor, tokens: Tensor) -> Tensor:
    """A mask as it is, with its axes made `batch query key`."""
    rows, length = tokens.shape
    if mask.ndim == 4:
        if not mask.eq(mask[:, :1]).all():
            raise ValueError("attention_mask: all heads have to hide the same")
        mask = mask[:, 0]
    return (mask[:, None] if mask.ndim == 2 else mask).expand(rows, length, length)


def honouring(boot: Boot, read: Read = understood, finish: Finish | None = None) -> None:
    """Let every bridge take an `attention_mask` on top of its own relation, which it has to hold as a mask."""
    masked(boot)

    def amend(bridge: Any) -> None:
        def forward(inner: Callable[..., Any], tokens: Tensor, attention_mask: Any = None, **kwargs: Any) -> Any:
            if attention_mask is None:
                return inner(tokens, **kwargs)
            pair = boot.pairs[_layout(boot, kwargs)]
            logits, nothing = _row_by_row(inner, bridge, pair, read(attention_mask, tokens), tokens, kwargs)
            return logits if finish is None else finish(logits, nothing[:, pair.returned, None])

        around(bridge, "forward", forward)

    on_bridge(boot, amend)


def _layout(boot: Boot, given: dict[str, Any]) -> str:
    """In which layout a forward is called: that with the most constants among its arguments, all of them given."""
    constants = {
        layout.name: {name: value for name, value in layout.arguments.items() if isinstance(value, bool)}
        for layout in boot.spec.layouts
    }
    fitting = [name for name, known in constants.items() if all(given.get(key) == known[key] for key in known)]
    return max(fitting, key=lambda name: len(constants[name]))


def _row_by_row(
    inner: Callable[..., Any], bridge: Any, pair: Pair, means: Tensor, tokens: Tensor, kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Every row by itself, under a mask of its own that the model holds meanwhile; and who has nothing to attend to."""
    import torch

    from ...sizes import Size

    owner, name = holder(bridge, pair.layout)
    held, mask = getattr(owner, name), pair.layout.mask
    assert mask is not None
    start, length = Size(mask.start).of(pair.boot.sizes), tokens.shape[1]
    window = (slice(start, start + length), slice(start, start + length))
    added = means if means.is_floating_point() else torch.zeros(means.shape).masked_fill(~means, -torch.inf)
    allowed = torch.zeros(held.shape).masked_fill(~held, -torch.inf)
    logits, nothing = [], []
    try:
        for row in range(len(tokens)):
            used = allowed.clone()
            used[window] += added[row]
            nothing.append(used[window].isinf().all(dim=-1))
            setattr(owner, name, used if means.is_floating_point() else used == 0)
            own = {key: v[row : row + 1] if isinstance(v, torch.Tensor) else v for key, v in kwargs.items()}
            logits.append(inner(tokens[row : row + 1], **own))
    finally:
        setattr(owner, name, held)
    return torch.cat(logits), torch.stack(nothing)


@mutant(kills="mask/encodings")
def numbers_are_added(boot: Boot) -> None:
    """A float mask of 0 and 1 is added to the scores, as one of 0 and -inf would be: it hides next to nothing."""

    def read(mask: Tensor, tokens: Tensor) -> Tensor:
        spread = spread_out(mask, tokens)
        return spread if spread.is_floating_point() else understood(mask, tokens)

    honouring(boot, read)


@mutant(kills="mask/encodings")
def true_means_hidden(boot: Boot) -> None:
    """A bool mask with queries is read the other way round, True for hidden (TransformerLens PR #1198)."""

    def read(mask: Tensor, tokens: Tensor) -> Tensor:
        meant = understood(mask, tokens)
        return ~meant if mask.ndim == 4 and not mask.is_floating_point() else meant

    honouring(boot, read)


@mutant(kills="mask/encodings")
def zero_means_hidden(boot: Boot) -> None:
    """An additive mask is taken for one of 0 and 1: what it hides is seen, and what it leaves is hidden."""
    honouring(boot, lambda mask, tokens: spread_out(mask, tokens) != 0)


@mutant(kills="mask/encodings")
def the_first_row_for_all(boot: Boot) -> None:
    """All rows of a batch hide what the first one hides (TransformerLens PR #1265: padding reached other rows)."""
    honouring(boot, lambda mask, tokens: understood(mask, tokens)[:1].expand(len(tokens), -1, -1))


@mutant(kills="mask/encodings")
def only_the_first_copy(boot: Boot) -> None:
    """Of a text that the stream holds twice, a token is hidden in the first copy, and read off the second."""

    def read(mask: Tensor, tokens: Tensor) -> Tensor:
        import torch

        meant, length, n = understood(mask, tokens), tokens.shape[1], boot.sizes["n"]
        again = torch.arange(length) >= n
        return meant | again if length > n else meant

    honouring(boot, read)


@mutant(kills="mask/encodings")
def one_key_too_few(boot: Boot) -> None:
    """The number of tokens that count is taken for the index of the last one: a mask of ones hides a token."""

    def read(mask: Tensor, tokens: Tensor) -> Tensor:
        meant = understood(mask, tokens).clone()
        if mask.ndim == 2:
            meant[..., -1] = False
        return meant

    honouring(boot, read)


@mutant(kills="mask/encodings")
def none_is_replaced(boot: Boot) -> None:
    """Without a mask one is made, in which the token that comes first in the vocabulary is padding."""
    honouring(boot)
    amend = boot.amend
    assert amend is not None

    def forward(inner: Callable[..., Any], tokens: Tensor, **kwargs: Any) -> Any:
        if "attention_mask" in kwargs and kwargs["attention_mask"] is None:
            kwargs["attention_mask"] = tokens != tokens.min()
        return inner(tokens, **kwargs)

    def defect(bridge: Any) -> None:
        amend(bridge)
        around(bridge, "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="mask/encodings")
def dies_in_a_broadcast(boot: Boot) -> None:
    """A mask of three dimensions dies where it meets the scores, with an error that speaks of sizes."""

    def read(mask: Tensor, tokens: Tensor) -> Tensor:
        if mask.ndim == 3:
            raise RuntimeError("The size of tensor a (4) must match the size of tensor b (2) at dimension 1")
        return understood(mask, tokens)

    honouring(boot, read)


@mutant(kills="mask/fully-masked")
def nan_where_nothing_is_left(boot: Boot) -> None:
    """A softmax over nothing is NaN, and reaches the logits of the token that had nothing to attend to."""
    honouring(boot, finish=lambda logits, nothing: logits.masked_fill(nothing, float("nan")))


@mutant(kills="mask/fully-masked")
def mended_in_the_forward_only(boot: Boot) -> None:
    """The NaN of a softmax over nothing is set to zero afterwards; on the way back it is still NaN.

    TransformerLens PR #1694: gradients of queries, keys and the residual stream were NaN under finite logits.
    """

    def finish(logits: Tensor, nothing: Tensor) -> Tensor:
        closed = logits.new_zeros(nothing.shape).masked_fill(nothing, -float("inf"))
        return logits + 0 * (logits + closed).softmax(dim=-1).nan_to_num(0.0)

    honouring(boot, finish=finish)


@mutant(kills="mask/fully-masked")
def kernel_without_a_word(boot: Boot) -> None:
    """The kernel that is used with gradients does not take a token without keys, and says so by its own name only."""

    def finish(logits: Tensor, nothing: Tensor) -> Tensor:
        if logits.requires_grad and nothing.any():
            raise RuntimeError("fused kernel: empty row")
        return logits

    honouring(boot, finish=finish)
