"""What an adapter author writes: one frozen description of an adapter, its layouts and its promises.

A spec is data. It imports neither torch nor transformers, so that collecting, listing and refusing
an unknown name stay instant. Lengths and sizes are formulas over the names in `AdapterSpec.sizes`,
such as `"2*n"`; places are patterns such as `"blocks.{layer}.ln1"`.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import truths
from .facts import Branch, Chunk, Dial, Halves, KeyValueCache, Limit, Rotary, Sampler, Value, Variant
from .layout import Attend, Layout, MaskTensor, PerRow, Span
from .sizes import Size

__all__ = [
    "ADDED",
    "AdapterSpec",
    "Attend",
    "Branch",
    "Chunk",
    "Dial",
    "Halves",
    "Impossible",
    "KeyValueCache",
    "Layout",
    "Limit",
    "MaskTensor",
    "NOT_CAUSAL",
    "NotYet",
    "PerRow",
    "Rotary",
    "Sampler",
    "Size",
    "Span",
    "Value",
    "Variant",
]


@dataclass(frozen=True, slots=True)
class NotYet:
    """A capability that is missing today; using it must raise an error that names it. `issue` asks for it."""

    issue: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """A capability that the model cannot have; using it must raise an error that names it. `why` is the reason."""

    why: str


SIZES = ("n", "layers", "d_vocab")
"""Sizes that every check may ask for: the context, the layers and the vocabulary."""

CAPABILITIES = ("loss", "generate", "denoise")
"""What a spec may decline; whatever it does not decline must work."""

NOT_CAUSAL: Mapping[str, Impossible] = {
    "loss": Impossible("a shifted causal loss is undefined where every token is predicted in its place"),
    "generate": Impossible("text comes from the denoising loop, not from next tokens"),
}
"""What no model can do that denoises all tokens of a text together."""

ADDED = (
    Branch(
        before="blocks.{layer}.hook_resid_pre",
        raw="blocks.{layer}.attn.o.hook_out",
        after="blocks.{layer}.hook_resid_mid",
    ),
    Branch(
        before="blocks.{layer}.hook_resid_mid",
        raw="blocks.{layer}.mlp.out.hook_out",
        after="blocks.{layer}.hook_resid_post",
    ),
)
"""What most layers add to the residual stream: attention, then the MLP, as they are."""


CEILINGS: Mapping[str, float] = {
    "forward": 1.25,
    "hook": 1.25,
    "cache": 1.5,
    "filter": 1.3,
    "backward": 1.15,
    "denoising": 1.25,
}
"""How long each use of a bridge may take, over the model's forward (its backward, its denoising step), at `bench`.

A plain bridge computes norms and rotations anew in small steps. On five adapters at four layers of width 256 and 256
tokens, one thread, `ci/throughput_study.py` found up to 1.18 for a forward and with a hook, 1.38 with a cache, 1.22
with a filter, 1.08 for a backward and 1.18 for a denoising step. The rest, some 6 %, is for machines whose arithmetic
is faster than their Python.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """Everything the suite needs to know about one adapter.

    `adapter` is None for an adapter that TransformerLens ships and selects by architecture; otherwise it is the adapter
    class, or "module:Class". A `plain` one is booted in TransformerBridge itself, whose own deviations are declared for
    all of them; any other brings a class of its own, as `bridge_class`. `fixture` is a folder shaped like a hub
    repository without weights, by name among the bundled ones or as an absolute path. `overrides` are config fields
    that a user has to set to run the model here; they go to subject and reference alike.
    `shim` is called with a copy of the modeling module before a model is constructed from it, as the reference is: what
    code for an older transformers needs to run at all. A `built` adapter is booted around a model that was made in the
    same way, on the CPU, and is handed over as `hf_model`: what a user does whose transformers cannot load it.
    `repair`, a "module:function", is called with every booted bridge: what a user does to put it right.
    `points` pairs bridge components with modules of the remote model, whose path ends in "?" where only some layers
    have it; `truths` are fields of `bridge.cfg`, each a value, a `Size`, a `Value` of the config, or a frozenset of
    spellings that mean the same, beside those that the other facts imply (see `conformance.truths`); `capabilities`
    are those it declines;
    `streams` are the residual stream before and after a layer, as hook names; `branches` what is added to it in
    between; `variants` the same code under other config fields; `limits`, `halves`, `cache`, `dial` and `rotary` what
    the model is besides; `sampler` how text comes from it, which a spec without one declines as "denoise";
    `parameterisation` names how logits become log-probabilities, in `oracles.likelihood`; row i of the logits speaks of
    the token at i + `shift`; before the tokens' keys stand those of so many learned `slots`, which every query sees;
    `bench` are the config fields of a size at which arithmetic dominates, `ceilings` the ratios of bridge over model
    allowed there, by kind, where they are not those of `CEILINGS`; `checkpoint` is OWNER/NAME@REV, the model to judge
    where there is no fixture, and the revision at which `--checkpoint OWNER/NAME` is judged where it names none;
    `todo` are questions about fields, by their names, that whoever drafted the spec could not answer: while one is
    left every run that boots names it, and none conforms.

    Raises:
        ValueError: a name that makes no id, a layout twice, an unknown capability or one that is declined although
            the spec has it, a formula that cannot be read.
    """

    name: str
    architecture: str
    auto_class: str
    layouts: tuple[Layout, ...]
    sizes: Mapping[str, str]
    points: Mapping[str, str]
    module: str
    adapter: str | type | None = None
    plain: bool = True
    fixture: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    shim: Callable[[Any], None] | None = None
    built: bool = False
    repair: str | None = None
    mask_token: Size | None = None
    truths: Mapping[str, object] = field(default_factory=dict)
    capabilities: Mapping[str, NotYet | Impossible] = field(default_factory=dict)
    oracle: str | None = None
    streams: tuple[str, str] = ("blocks.{layer}.hook_resid_pre", "blocks.{layer}.hook_resid_post")
    branches: tuple[Branch, ...] = ADDED
    variants: Mapping[str, Variant] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    halves: Halves | None = None
    cache: KeyValueCache | None = None
    dial: Dial | None = None
    rotary: Rotary | None = None
    sampler: Sampler | None = None
    parameterisation: str | None = None
    shift: int = 0
    slots: int = 0
    checkpoint: str | None = None
    bench: Mapping[str, object] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    axes: tuple[str, ...] = ()
    todo: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        implied = truths.implied(self.sizes, self.mask_token, self.rotary)
        object.__setattr__(self, "truths", {**implied, **self.truths})
        object.__setattr__(self, "ceilings", {**CEILINGS, **self.ceilings})
        for name in self.ceilings:
            if name not in CEILINGS:
                raise ValueError(f"spec {self.name!r}: unknown ceiling {name!r}{nearest(name, CEILINGS)}")
        for name in self.capabilities:
            if name not in CAPABILITIES:
                raise ValueError(f"spec {self.name!r}: unknown capability {name!r}{nearest(name, CAPABILITIES)}")
            if not isinstance(self.capabilities[name], NotYet | Impossible):
                raise ValueError(
                    f"spec {self.name!r}: capability {name!r} is declined with NotYet(...) or Impossible(...)"
                )
        for name in self.todo:
            if name not in self.__slots__:
                raise ValueError(f"spec {self.name!r}: todo asks about {name!r}{nearest(name, self.__slots__)}")
        if missing := [name for name in SIZES if name not in self.sizes]:
            raise ValueError(f"spec {self.name!r}: sizes lacks {', '.join(missing)}; say which config field holds it")
        if self.sampler is not None and "denoise" in self.capabilities:
            raise ValueError(f"spec {self.name!r}: declines capability 'denoise' and has a sampler; drop one of them")
        if self.checkpoint is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", self.checkpoint):
            raise ValueError(f"spec {self.name!r}: checkpoint is {self.checkpoint!r}, want 'OWNER/NAME@REV'")
        names = [layout.name for layout in self.layouts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"spec {self.name!r}: got layouts {names}, want at least one and each name once")
        for name in (self.name, *names):
            if not re.fullmatch(r"[\w.@-]+", name):
                raise ValueError(
                    f"spec {self.name!r}: {name!r} becomes part of ids; use letters, digits and . _ - @ only"
                )
        self._check_formulas()
        self._check_names(names)

    def _check_names(self, layouts: list[str]) -> None:
        """Every layout and variant that a fact speaks of is one of the spec."""
        spoken = [limit.layout for limit in self.limits]
        spoken += [self.halves.layout, self.halves.alone] if self.halves else []
        spoken += [self.cache.layout] if self.cache else []
        spoken += [self.sampler.layout] if self.sampler else []
        for name in spoken:
            if name not in layouts:
                raise ValueError(f"spec {self.name!r}: unknown layout {name!r}{nearest(name, layouts)}")
        for limit in self.limits:
            if limit.variant not in self.variants:
                hint = nearest(limit.variant, self.variants)
                raise ValueError(f"spec {self.name!r}: unknown variant {limit.variant!r}{hint}")

    def _check_formulas(self) -> None:
        # Far apart, so that no difference of sizes is zero by accident.
        sizes = {name: 10 ** (place + 3) for place, name in enumerate(self.sizes)}
        stated = (truth.formula for truth in self.truths.values() if isinstance(truth, Size))
        mask = () if self.mask_token is None else (self.mask_token.formula,)
        facts = [limit.block for limit in self.limits]
        facts += [bound for limit in self.limits for bound in limit.positions or ()]
        facts += [*self.halves.noisy, *self.halves.clean] if self.halves else []
        layouts = (formula for layout in self.layouts for formula in layout.formulas())
        for formula in (*mask, *self.axes, *stated, *facts, *layouts):
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
            raise ValueError(f"config.json lacks {', '.join(missing)}, which {self.name} names in its sizes")
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
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()))[:300]}"


def printable(text: str) -> str:
    """A text as it may stand on a line of a terminal: a file's name may hold line breaks and escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
