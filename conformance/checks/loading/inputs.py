"""Inputs: what a forward refuses. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...layout import PerRow
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...pair import Pair

TOKENS = frozenset(("input_ids", "ids", "token", "tokens"))
LENGTH = TOKENS | {"length"}
"""Words that name the token input in an error; its length has a name of its own. Any other argument has its keyword."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong input: where it stands in the ledger, what it is, and the words of which an error must have one.

    `harmless` ones are left out where they cannot matter: they may also give the logits that the pair has.
    """

    at: str
    pair: Pair
    inputs: Mapping[str, Any]
    words: frozenset[str]
    harmless: bool = False


@requirement("loading/unknown-keyword", level=MUST)
def unknown_keyword(pair: Pair) -> Iterator[Finding]:
    """A keyword that the model does not know MUST raise an error that names it.

    A misspelt timestep or mask that is swallowed gives the logits of another experiment.
    """
    from ...pair import SubjectRaised

    try:
        pair.call(conformance_misspelt=1)
    except SubjectRaised as error:
        if "conformance_misspelt" not in str(error):
            yield Finding("unclear-error", "forward", got=str(error), want="an error that names the keyword")
        return
    yield Finding("accepted", "forward", got="logits", want="an error that names the keyword")


@requirement("loading/wrong-input", level=MUST)
def wrong_input(pair: Pair) -> Iterator[Finding]:
    """A value, shape, dtype or length that an argument cannot have, and leaving out one that matters, MUST raise an
    error that names the argument.

    An id of -1 reads the last row of the vocabulary, and nan that the model ignores today reaches the logits with the
    next checkpoint; an error on two sizes deep inside says nothing of where they came from.
    """
    from ...compare import shape_of
    from ...pair import SubjectRaised

    rows = pair.with_rows
    for wrong in (*wrong_tokens(rows), *wrong_arguments(rows), *left_out(rows)):
        want = f"an error that has one of the words {', '.join(sorted(wrong.words))}"
        try:
            logits = wrong.pair.call(wrong.inputs)
        except SubjectRaised as error:
            # Lines before the last may be the source of whoever raised, with names of its own.
            last = (str(error.__cause__ or error).strip().splitlines() or [""])[-1]
            if not wrong.words & set(re.findall(r"\w+", last.lower())):
                kind = type(error.__cause__ or error).__name__
                yield Finding("unclear-error", wrong.at, got=f"{kind}: {last[:120]}", want=want)
        else:
            if not (wrong.harmless and logits.equal(wrong.pair.plain)):
                yield Finding("accepted", wrong.at, got=f"logits {shape_of(logits)}", want=want)


def wrong_tokens(pair: Pair) -> Iterator[Wrong]:
    """Token inputs that the layout cannot have."""
    ids, sizes = pair.inputs["input_ids"], pair.boot.sizes
    beyond, negative = ids.clone(), ids.clone()
    beyond[0, 0], negative[0, 0] = sizes["d_vocab"], -1
    longest = sizes.get("n") if pair.layout.ragged else pair.length
    spoilt = {
        "floats": (ids.float(), TOKENS),
        "three axes": (ids[..., None], TOKENS),
        "beyond the vocabulary": (beyond, TOKENS),
        "negative": (negative, TOKENS),
        "empty": (ids[:, :0], LENGTH),
    }
    if longest is not None:
        spoilt["too long"] = (ids[:, :1].repeat(1, longest + 1), LENGTH)
    if not pair.layout.ragged:
        spoilt["too short"] = (ids[:, :-1], LENGTH)
    for kind, (tokens, words) in spoilt.items():
        # A mask of another length would be to blame itself.
        yield Wrong(f"input_ids: {kind}", pair, pair.attending({**pair.inputs, "input_ids": tokens}), words)


def wrong_arguments(pair: Pair) -> Iterator[Wrong]:
    """One number per row of the batch, given in ways that are none; also where the config ignores it."""
    import torch

    for name in _per_row(pair):
        given = pair.inputs[name]
        holed = given.clone()
        holed[0] = torch.nan
        spoilt = {
            "nan": holed,
            "a row too many": torch.cat((given, given[:1])),
            "two axes": given[:, None],
            "text": [str(value) for value in given.tolist()],
        }
        for kind, value in spoilt.items():
            yield Wrong(f"{name}: {kind}", pair, {**pair.inputs, name: value}, frozenset((name,)))


def left_out(pair: Pair) -> Iterator[Wrong]:
    """The same numbers not given at all, here and, where the config ignores them here, under one that does not."""
    for name, argument in _per_row(pair).items():
        acts = argument.acts(pair.boot.config)
        other = None if acts else pair.boot.turned(pair.layout.name, argument)
        for where in filter(None, (pair, other)):
            for kind, given in (("None", {name: None}), ("omitted", {})):
                rest = {key: value for key, value in where.inputs.items() if key != name}
                harmless = where is pair and not acts
                yield Wrong(f"{name}: {kind}", where, {**rest, **given}, frozenset((name,)), harmless)


def _per_row(pair: Pair) -> dict[str, PerRow]:
    return {name: value for name, value in pair.layout.arguments.items() if isinstance(value, PerRow)}
