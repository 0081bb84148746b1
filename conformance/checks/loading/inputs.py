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
    """A wrong input: where it stands in the ledger, what it is, and the words of which an error must have one."""

    at: str
    inputs: Mapping[str, Any]
    words: frozenset[str]


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
    """A value, shape, dtype or length that an argument cannot have MUST raise an error that names the argument.

    An id of -1 reads the last row of the vocabulary, and nan that the model ignores today reaches the logits with the
    next checkpoint; an error on two sizes deep inside says nothing of where they came from.
    """
    from ...compare import shape_of
    from ...pair import SubjectRaised

    for wrong in (*wrong_tokens(pair.with_rows), *wrong_arguments(pair.with_rows)):
        want = f"an error that has one of the words {', '.join(sorted(wrong.words))}"
        try:
            logits = pair.call(wrong.inputs)
        except SubjectRaised as error:
            # Lines before the last may be the source of whoever raised, with names of its own.
            last = (str(error.__cause__ or error).strip().splitlines() or [""])[-1]
            if not wrong.words & set(re.findall(r"\w+", last.lower())):
                kind = type(error.__cause__ or error).__name__
                yield Finding("unclear-error", wrong.at, got=f"{kind}: {last[:120]}", want=want)
        else:
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
        yield Wrong(f"input_ids: {kind}", {**pair.inputs, "input_ids": tokens}, words)


def wrong_arguments(pair: Pair) -> Iterator[Wrong]:
    """One number per row of the batch, given in ways that are none; also where the config ignores it."""
    import torch

    for name, argument in pair.layout.arguments.items():
        if not isinstance(argument, PerRow):
            continue
        given, words = pair.inputs[name], frozenset((name,))
        holed = given.clone()
        holed[0] = torch.nan
        spoilt = {
            "None": None,
            "nan": holed,
            "a row too many": torch.cat((given, given[:1])),
            "two axes": given[:, None],
            "text": [str(value) for value in given.tolist()],
        }
        for kind, value in spoilt.items():
            yield Wrong(f"{name}: {kind}", {**pair.inputs, name: value}, words)
        yield Wrong(f"{name}: omitted", {key: value for key, value in pair.inputs.items() if key != name}, words)
