"""Encodings: a mask that a user hands over hides what it hides, however it is written. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...masks import ENCODINGS, KEYS_ONLY
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...pair import Pair

LONG = 256
"""Tokens of a stream beyond which only some masks are tried."""

SHARED = "4-D bool for all rows"
"""The encoding in which all rows of a batch hide what the first one hides."""

FEW = ("2-D int", "4-D bool", "4-D additive")
"""One encoding of each kind, for long streams."""

NOTHING, LEFT, RIGHT, MIDDLE = "nothing hidden", "left padding", "right padding", "one token in the middle"
CONTENTS = (NOTHING, LEFT, RIGHT, MIDDLE)


@requirement("mask/encodings", level=MUST)
def encodings(pair: Pair) -> Iterator[Finding]:
    """A mask that is handed over as `attention_mask`, in any encoding, MUST take from the logits of the other tokens
    whatever the hidden ones say, and no more, or be refused by a typed error that names it.

    A mask that is dropped, or read the other way round, gives the logits of another text
    (TransformerLens #1198, #1607, #1609).
    """
    from ...compare import exact

    if not pair.layout.handed("attention_mask"):
        yield from exact("attention_mask: None", pair.call(attention_mask=None), pair.plain)
    for content in CONTENTS if pair.length <= LONG else (NOTHING, LEFT):
        for encoding in _encodings(pair):
            yield from cell(pair, encoding, content)


@requirement("mask/fully-masked", level=MUST, needs=("mask/encodings",))
def fully_masked(pair: Pair) -> Iterator[Finding]:
    """A token that an `attention_mask` lets attend to nothing MUST leave logits and gradients finite, or be refused by
    a typed error that names the mask.

    A softmax over nothing is NaN; where the forward is mended, the backward often is not (TransformerLens PR #1694).
    """
    import torch

    keep = torch.ones_like(pair.inputs["input_ids"], dtype=torch.bool)
    allowed = pair.relation.expand(len(keep), -1, -1).clone()
    # One query in every row; where a mask has no queries, every token of the last row.
    allowed[:, pair.returned.start] = False
    keep[-1] = False
    for encoding in [name for name in _encodings(pair) if pair.length <= LONG or name in FEW]:
        yield from _emptied(pair, encoding, ENCODINGS[encoding](keep, allowed, _heads(pair)))


def cell(pair: Pair, encoding: str, content: str) -> Iterator[Finding]:
    """One cell of the matrix: what a bridge does with one content in one encoding."""
    import torch

    from ...compare import PATHS, close
    from ...pair import SubjectRaised

    at, keep = f"attention_mask: {encoding}", hidden(pair, content)
    if keep is None:
        return
    if encoding == SHARED:
        keep = keep[:1].expand_as(keep)
    inputs, plain = _pretending(pair, keep)
    try:
        got = pair.call(inputs, attention_mask=_encoded(pair, encoding, keep))
    except SubjectRaised as error:
        yield from _unless_refused(error, at, content)
        return
    if content == NOTHING:
        yield from close(at, got, pair.plain, pair.allowed("logits", PATHS), case=content)
        return
    want, real = _wanted(pair, keep), keep[:, pair.returned]
    if want is None:
        yield Finding("unjudged", at, got="logits", want="a refusal, or an oracle that taps its mask", case=content)
    elif got.shape != plain.shape:
        yield from close(at, got, plain, 0.0, case=content)
    else:
        ignored = torch.equal(got[real], plain[real])
        for finding in close(at, got[real], want[real], pair.allowed("logits"), case=content):
            yield replace(finding, code="ignored", got="the logits of no mask") if ignored else finding


def hidden(pair: Pair, content: str) -> Tensor | None:
    """Which tokens a content lets count, bool `batch key`, other ones in every row; None where there is no room for it.

    What is hidden are tokens of the text, in every copy of it that the stream holds.
    """
    import torch

    rows, sizes, index = pair.rows, pair.boot.sizes, torch.arange(pair.length)
    position = torch.as_tensor(pair.layout.positions(index, sizes.get("n", pair.length)))
    tokens, row = int(position.max()) + 1, torch.arange(1, rows + 1)[:, None]
    # In whole blocks, where there are enough of them: what is left is a text that starts with a block.
    block = sizes.get("block", 1)
    step = block if rows * block < tokens else 1
    keep = {
        NOTHING: position >= 0 * row,
        LEFT: position >= step * row,
        RIGHT: position < tokens - row,
        MIDDLE: position != tokens // 2 - row,
    }[content]
    return keep if bool(keep.any(dim=1).all()) else None


def _encoded(pair: Pair, encoding: str, keep: Tensor) -> Tensor:
    everyone = pair.relation.any(dim=0) if pair.for_everyone else True
    return ENCODINGS[encoding](keep & everyone, pair.relation & keep[:, None], _heads(pair))


def _encodings(pair: Pair) -> list[str]:
    """The encodings that can say what is to be said: instead of a mask with queries only one with queries will do."""
    instead = pair.layout.handed("attention_mask")
    return [name for name in ENCODINGS if not (instead and name in KEYS_ONLY and not pair.for_everyone)]


def _heads(pair: Pair) -> int:
    return pair.boot.sizes.get("heads", 1)


def _pretending(pair: Pair, keep: Tensor) -> tuple[dict[str, Any], Tensor]:
    """The inputs with other tokens where they are hidden, and the subject's logits of these without a mask."""
    ids, vocabulary = pair.inputs["input_ids"], pair.boot.sizes["d_vocab"]
    inputs = {**pair.inputs, "input_ids": ids.where(keep, (ids + 1) % vocabulary)}
    key = ("without a mask", *keep.flatten().tolist())
    if key not in pair.shelf:
        pair.shelf[key] = pair.plain if bool(keep.all()) else pair.call(inputs)
    return inputs, pair.shelf[key]


def _wanted(pair: Pair, keep: Tensor) -> Tensor | None:
    """Logits that know nothing of the hidden tokens; None where no witness can be asked. Theirs do not count."""
    key = ("hiding", *keep.flatten().tolist())
    if key not in pair.shelf:
        alone = all(_a_stream_of_its_own(pair, row) for row in keep)
        pair.shelf[key] = _unpadded(pair, keep) if alone else _closed(pair, keep)
    found: Tensor | None = pair.shelf[key]
    return found


def _a_stream_of_its_own(pair: Pair, row: Tensor) -> bool:
    """Whether the layout could be called on the tokens that count alone: they hang together, with the same relation."""
    left = row.nonzero().flatten()
    together = len(left) == int(left[-1] - left[0]) + 1
    alike = pair.relation[left][:, left].equal(pair.relation[: len(left), : len(left)])
    return pair.layout.ragged and together and alike


def _unpadded(pair: Pair, keep: Tensor) -> Tensor:
    """The reference on every row by itself, without its padding."""
    import torch

    wanted = torch.zeros(*keep.shape, pair.boot.sizes["d_vocab"])
    for number, row in enumerate(keep):
        given = {name: v[number : number + 1] if isinstance(v, torch.Tensor) else v for name, v in pair.inputs.items()}
        alone = pair.attending({**given, "input_ids": given["input_ids"][:, row]})
        wanted[number, row] = pair.reference_logits(alone)[0]
    return wanted


def _closed(pair: Pair, keep: Tensor) -> Tensor | None:
    """The equations in fp64, with the hidden keys closed to every query."""
    import torch

    boot, tapped = pair.boot, False
    if boot.oracle is None:
        return None

    def tap(name: str, tensor: Tensor) -> Tensor:
        nonlocal tapped
        if not name.endswith(".attn.hook_mask"):
            return tensor
        tapped = True
        closed = tensor.masked_fill(~keep[:, None, None], -torch.inf)
        # Who is left with nothing is hidden from all others, so that it may see what it likes.
        return closed.where(closed.isfinite().any(dim=-1, keepdim=True), 0.0)

    boot.forwards["oracle"] += 1
    with torch.no_grad():
        logits = boot.oracle(boot.params_in(torch.float64), boot.config, pair.inputs, tap).float()
    return logits if tapped else None


def _emptied(pair: Pair, encoding: str, mask: Tensor) -> Iterator[Finding]:
    """Whether logits and gradients are finite under one mask.

    One that is dropped, or refused whatever it says, is another requirement's; under it nothing is proven here.
    """
    import torch

    from ...components import parameters
    from ...objective import objective
    from ...pair import SubjectRaised

    try:
        got = pair.call(grad=True, attention_mask=mask)
    except SubjectRaised as error:
        if not list(cell(pair, encoding, NOTHING)):
            yield from _unless_refused(error, "attention_mask", encoding)
        return
    if got.shape != pair.plain.shape or got.equal(pair.plain):
        return
    if not got.isfinite().all():
        yield Finding("not-finite", "logits", got="inf or nan", want="finite numbers", case=encoding)
        return
    if got.requires_grad:
        leaves = [value for value in parameters(pair.boot.bridge.original_model).values() if value.requires_grad]
        gradients = torch.autograd.grad(objective(pair, got), leaves, allow_unused=True)
        wrong = sum(not gradient.isfinite().all() for gradient in gradients if gradient is not None)
        if wrong:
            many = f"inf or nan in those of {wrong} parameters"
            yield Finding("not-finite", "gradients", got=many, want="finite numbers", case=encoding)


def _unless_refused(error: Exception, at: str, case: str) -> Iterator[Finding]:
    """A finding unless an error is meant as a refusal and says of what."""
    from ...pair import REFUSALS

    cause = error.__cause__
    if not isinstance(cause, REFUSALS) or "attention_mask" not in str(cause):
        yield Finding("unclear-error", at, got=str(error), want="a typed error that names attention_mask", case=case)
