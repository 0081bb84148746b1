"""Layouts: the ways to call a model, each with its inputs, its may-attend relation and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .sizes import Size

Relation = Callable[[Any, Any, int, int], Any]
"""`relation(query, key, n, block)`: may this query attend to this key? Works on ints and on index tensors."""

Positions = Callable[[Any, int], Any]
"""`positions(index, n)`: the position by which a token of the stream is rotated. Works on ints and on index tensors."""


def in_order(index: Any, n: int) -> Any:
    """Positions of one stream that starts at 0."""
    return index


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens in a stream: its length, and the share of them that is replaced by the mask id."""

    length: str
    masked: float = 0.0


@dataclass(frozen=True, slots=True)
class PerRow:
    """An argument of shape `batch`, one number per row, drawn evenly from [low, high].

    `when` are config fields that must all have these values for it to have an effect; else the model ignores it.
    """

    low: float
    high: float
    when: Mapping[str, object] = field(default_factory=dict)

    def acts(self, config: Mapping[str, Any]) -> bool:
        """Whether the argument has an effect under a config."""
        return all(config.get(name) == value for name, value in self.when.items())

    @property
    def levels(self) -> tuple[float, float, float, float]:
        """The lowest value, one just above it, the middle and the highest."""
        span = self.high - self.low
        return self.low, self.low + 1e-4 * span, self.low + span / 2, self.high


@dataclass(frozen=True, slots=True)
class Attend:
    """An argument by which the caller hands over the layout's relation, in an encoding of `masks.ENCODINGS`.

    One without queries takes the tokens to which any query may attend.
    """

    encoding: str


@dataclass(frozen=True, slots=True)
class MaskTensor:
    """Where a model keeps its may-attend relation: a dotted path in the remote model and a window of it.

    The window is square, as long as the stream, its first row and column `start`; True means "may attend".
    """

    path: str
    start: str = "0"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to call the model.

    `stream` is the token input, span after span; `arguments` are its other keywords, constants, `PerRow` or `Attend`;
    `relation` is who may attend to whom; `returns` the slice of the stream that has logits;
    `fires` says which points run more than once in a forward, each time on a further part of the stream;
    `positions` by what each token is rotated; a `ragged` stream may end after any token.
    """

    name: str
    stream: tuple[Span, ...]
    relation: Relation
    arguments: Mapping[str, object] = field(default_factory=dict)
    returns: tuple[str, str] | None = None
    fires: Mapping[str, int] = field(default_factory=dict)
    mask: MaskTensor | None = None
    positions: Positions = in_order
    ragged: bool = False

    def handed(self, name: str | None = None) -> bool:
        """Whether a relation is handed over by the caller, as the argument of that name, or as any."""
        given = {key for key, value in self.arguments.items() if isinstance(value, Attend)}
        return bool(given) if name is None else name in given

    def length(self, sizes: Mapping[str, int]) -> int:
        """Tokens in the stream."""
        return sum(Size(span.length).of(sizes) for span in self.stream)

    def formulas(self) -> Iterator[str]:
        """Every length that the layout states."""
        yield from (span.length for span in self.stream)
        yield from self.returns or ()
        if self.mask is not None:
            yield self.mask.start
