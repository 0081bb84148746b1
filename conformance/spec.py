"""What an adapter author writes: one frozen description of an adapter, its layouts and its promises.

A spec is data. It imports neither torch nor transformers, so that collecting, listing and refusing
an unknown name stay instant. Lengths and sizes are formulas over the names in `AdapterSpec.sizes`,
such as `"2*n"`; places are patterns such as `"blocks.{layer}.ln1"`.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Relation = Callable[[Any, Any, int, int], Any]
"""`relation(query, key, n, block)`: may this query attend to this key? Works on ints and on index tensors."""

Arithmetic = Callable[[int, int], int]
OPERATORS: Mapping[type[ast.operator], Arithmetic] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True, slots=True)
class Size:
    """A whole number written as a formula over a spec's sizes: `Size("4*d_model")`."""

    formula: str

    @property
    def names(self) -> frozenset[str]:
        """The sizes that the formula speaks of."""
        return frozenset(node.id for node in ast.walk(ast.parse(self.formula)) if isinstance(node, ast.Name))

    def of(self, sizes: Mapping[str, int]) -> int:
        """The value under `sizes`; ValueError names the formula, the culprit and the sizes there are."""

        def value(node: ast.expr) -> int:
            match node:
                case ast.Constant(value=int(number)):
                    return number
                case ast.Name(id=name) if name in sizes:
                    return sizes[name]
                case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                    return OPERATORS[type(op)](value(left), value(right))
            known = ", ".join(sorted(sizes))
            raise ValueError(
                f"size {self.formula!r}: cannot read {ast.unparse(node)!r}; use whole numbers, + - * // and {known}"
            )

        try:
            return value(ast.parse(self.formula, mode="eval").body)
        except (SyntaxError, TypeError):
            raise ValueError(f"size {self.formula!r} is not a formula; write one like '2*n'") from None
        except ZeroDivisionError:
            raise ValueError(f"size {self.formula!r} divides by zero where {dict(sizes)}") from None


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens in a stream: its length, and the share of them that is replaced by the mask id."""

    length: str
    masked: float = 0.0


@dataclass(frozen=True, slots=True)
class PerRow:
    """An argument of shape `batch`, one number per row, drawn evenly from [low, high]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MaskTensor:
    """Where a model keeps its may-attend relation: a dotted path in the remote model and a window of it.

    The window is square, rows and columns `start` to `stop`; the tensor is bool with True for "may attend".
    """

    path: str
    start: str
    stop: str


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to call the model.

    `stream` is the token input, span after span; `arguments` are its other keywords, constants or `PerRow`;
    `relation` is who may attend to whom; `returns` the slice of the stream that has logits;
    `fires` says which points run more than once in a forward, each time on a further part of the stream.
    """

    name: str
    stream: tuple[Span, ...]
    relation: Relation
    arguments: Mapping[str, object] = field(default_factory=dict)
    returns: tuple[str, str] | None = None
    fires: Mapping[str, int] = field(default_factory=dict)
    mask: MaskTensor | None = None

    def length(self, sizes: Mapping[str, int]) -> int:
        """Tokens in the stream."""
        return sum(Size(span.length).of(sizes) for span in self.stream)

    def formulas(self) -> Iterator[str]:
        """Every length that the layout states."""
        yield from (span.length for span in self.stream)
        yield from self.returns or ()
        if self.mask is not None:
            yield from (self.mask.start, self.mask.stop)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part `index` of the last axis of a hook's tensor, cut into `of` equal parts."""

    hook: str
    index: int
    of: int


@dataclass(frozen=True, slots=True)
class Branch:
    """What one part of a layer adds to the residual stream: `after = before + gate * raw`, each a hook.

    A gate without a position axis holds for every position; a model without gates has 1.
    """

    before: str
    raw: str
    after: str
    gate: str | Chunk | float = 1.0


@dataclass(frozen=True, slots=True)
class NotYet:
    """A capability that is missing today; using it must raise an error that names it. `issue` asks for it."""

    issue: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """A capability that the model cannot have; using it must raise an error that names it. `why` is the reason."""

    why: str


CAPABILITIES = ("loss", "generate")
"""What a spec may decline; whatever it does not decline must work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """Everything the suite needs to know about one adapter.

    `adapter` is None for an adapter that TransformerLens ships and selects by architecture; otherwise it
    is the adapter class, or "module:Class". `fixture` is a folder shaped like a hub repository without
    weights, by name among the bundled ones or as an absolute path. `overrides` are config fields that a
    user has to set to run the model here; they go to subject and reference alike.
    `points` pairs bridge components with modules of the remote model; `truths` are fields of `bridge.cfg`,
    each a value, a `Size`, or a frozenset of spellings that mean the same; `capabilities` are those it declines;
    `streams` are the residual stream before and after a layer, as hook names; `branches` what is added to it in
    between; `bench` are the config fields of a size at which
    arithmetic dominates, `ceiling` the ratio of bridge over model allowed there.

    Raises:
        ValueError: a name that makes no id, a layout twice, an unknown capability, a formula that cannot be read.
    """

    name: str
    architecture: str
    auto_class: str
    layouts: tuple[Layout, ...]
    sizes: Mapping[str, str]
    points: Mapping[str, str]
    module: str
    adapter: str | type | None = None
    fixture: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    mask_token: Size | None = None
    truths: Mapping[str, object] = field(default_factory=dict)
    capabilities: Mapping[str, NotYet | Impossible] = field(default_factory=dict)
    oracle: str | None = None
    streams: tuple[str, str] = ("blocks.{layer}.hook_resid_pre", "blocks.{layer}.hook_resid_post")
    branches: tuple[Branch, ...] = ()
    bench: Mapping[str, object] = field(default_factory=dict)
    ceiling: float = 1.15
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.capabilities:
            if name not in CAPABILITIES:
                raise ValueError(f"spec {self.name!r}: unknown capability {name!r}{nearest(name, CAPABILITIES)}")
            if not isinstance(self.capabilities[name], NotYet | Impossible):
                raise ValueError(
                    f"spec {self.name!r}: capability {name!r} is declined with NotYet(...) or Impossible(...)"
                )
        names = [layout.name for layout in self.layouts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"spec {self.name!r}: got layouts {names}, want at least one and each name once")
        for name in (self.name, *names):
            if not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(
                    f"spec {self.name!r}: {name!r} becomes part of ids; use letters, digits and . _ - only"
                )
        self._check_formulas()

    def _check_formulas(self) -> None:
        # Far apart, so that no difference of sizes is zero by accident.
        sizes = {name: 10 ** (place + 3) for place, name in enumerate(self.sizes)}
        truths = (truth.formula for truth in self.truths.values() if isinstance(truth, Size))
        mask = () if self.mask_token is None else (self.mask_token.formula,)
        for formula in (*mask, *self.axes, *truths, *(f for layout in self.layouts for f in layout.formulas())):
            try:
                Size(formula).of(sizes)
            except ValueError as error:
                raise ValueError(f"spec {self.name!r}: {error}") from None

    def __str__(self) -> str:
        return self.name

    @property
    def folder(self) -> Path:
        """The folder that holds the spec's module; its ledger and snapshots lie there too."""
        return Path(sys.modules[self.module].__file__ or ".").resolve().parent

    @property
    def ledger(self) -> Path:
        """The file of declared deviations, beside the spec; it need not exist."""
        return self.folder / f"{self.name}.deviations.toml"

    @property
    def snapshots(self) -> Path:
        """The folder of this adapter's committed snapshots, beside the spec."""
        return self.folder / "snapshots" / self.name

    def resolve(self, config: Mapping[str, Any]) -> dict[str, int]:
        """Sizes of one checkpoint, from its config; ValueError names a field that is missing."""
        missing = [name for name in self.sizes.values() if name not in config]
        if missing:
            raise ValueError(f"config.json lacks {', '.join(missing)}, which {self.name} needs for its sizes")
        for name in self.sizes.values():
            if not isinstance(config[name], int):
                raise ValueError(f"config.json says {name}: {config[name]!r}, want a whole number")
        return {size: config[name] for size, name in self.sizes.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the one that was probably meant, else all there are."""
    listed = sorted(known)
    near = difflib.get_close_matches(name, listed, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(listed)}"


def in_one_line(error: BaseException) -> str:
    """Kind and text of an error, short enough for the middle of a message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def places(pattern: str, layers: int) -> Iterator[str]:
    """Every place a pattern names: one per layer where it says `{layer}`, else itself."""
    if "{layer}" not in pattern:
        yield pattern
        return
    for layer in range(layers):
        yield pattern.replace("{layer}", str(layer))


def pattern_of(place: str) -> str:
    """The pattern a place belongs to: `blocks.0.ln1` is one of `blocks.{layer}.ln1`."""
    return ".".join("{layer}" if part.isdigit() and i == 1 else part for i, part in enumerate(place.split(".")))
