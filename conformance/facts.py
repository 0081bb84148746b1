"""Facts: what a spec states about its model beyond the layouts; each is what some check holds a bridge to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .layout import Layout


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part `index` of the last axis of a hook's tensor, cut into `of` equal parts."""

    hook: str
    index: int
    of: int


@dataclass(frozen=True, slots=True)
class Value:
    """A number that the config holds, divided by another field of it where `over` names one."""

    field: str
    over: str | None = None

    def of(self, config: Mapping[str, Any]) -> float:
        """The number in one config."""
        value: float = config[self.field]
        return value if self.over is None else value / config[self.over]


@dataclass(frozen=True, slots=True)
class Branch:
    """What one part of a layer adds to the residual stream: `after = before + gate * raw`, each a hook.

    A gate without a position axis holds for every position; it may be a number, too, and a model without gates has 1.
    """

    before: str
    raw: str
    after: str
    gate: str | Chunk | Value | float = 1.0

    def of(self, config: Mapping[str, Any]) -> Branch:
        """The branch under one config."""
        return replace(self, gate=self.gate.of(config)) if isinstance(self.gate, Value) else self

    def factor(self, shown: Any, raw: Any) -> Any:
        """What the raw branch is multiplied by, from what the gate's hook shows; None where there is no hook."""
        if shown is None:
            return self.gate
        part = shown.chunk(self.gate.of, dim=-1)[self.gate.index] if isinstance(self.gate, Chunk) else shown
        return part[:, None] if part.ndim == raw.ndim - 1 else part


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotation of queries and keys, layer by layer: an oracle's taps before and after it, and the base of its angles.

    The first `share` of the channels of a head are rotated, d of them, channel i with i + d/2, by
    position * base^(-2i/d) (arXiv 2104.09864). `tables` is the point that returns their cosines and sines, where the
    spec pairs one.
    """

    before: tuple[str, str] = ("blocks.{layer}.attn.hook_q", "blocks.{layer}.attn.hook_k")
    after: tuple[str, str] = ("blocks.{layer}.attn.hook_rot_q", "blocks.{layer}.attn.hook_rot_k")
    base: float = 10_000.0
    share: float = 1.0
    tables: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """The model under other config fields, each a value or a `Size`.

    `layouts` are those in which it is called, by default the spec's own; `without` points that it does not have.
    """

    fields: Mapping[str, object]
    layouts: tuple[Layout, ...] | None = None
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """With blocks of a certain size, a layout is another model.

    In `layout`, at block size `block`, the logits at `positions` of the stream are those that `variant` gives on
    these positions alone; `positions` are two formulas, or None for the whole stream.
    """

    name: str
    layout: str
    block: str
    variant: str
    positions: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Halves:
    """A layout that holds a text twice, noisy and clean, so that all blocks are denoised in one forward.

    `noisy` and `clean` are slices of its stream; the logits of a noisy block are those that layout `alone` gives at
    the end of the stream [clean blocks before it, the noisy block].
    """

    layout: str
    noisy: tuple[str, str]
    clean: tuple[str, str]
    alone: str


@dataclass(frozen=True, slots=True)
class KeyValueCache:
    """Decoding block by block with keys and values kept: how a user opens, fills and closes the cache.

    `open(model, batch)` and `close(model)` get the remote model. Between them a forward in `layout` takes one block;
    with the arguments `commit` the block stays in the cache for those after it.
    """

    layout: str
    open: Callable[[Any, int], None]
    close: Callable[[Any], None]
    commit: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dial:
    """The block size of one live bridge: `turn(bridge, size)` sets it the way a user does.

    It is called with sizes that do not divide the model length, too, for which it should raise a ValueError.
    """

    turn: Callable[[Any, int], None]


@dataclass(frozen=True, slots=True)
class Sampler:
    """The loop that turns masks into text.

    `sample(bridge, prompt, observer=None, resume=None, seed=0, **options)` takes ids `batch length` and returns ids
    `batch length` that start with them; `bridge` may be a stand-in that is called in the same way. It tells `observer`
    (`conformance.denoising.Observer`) of every step, and goes on from a `Step.state` that it gets as `resume`, if it is
    `resumable`. Row i of a batch with seed s, of at most `most_rows`, is the run of that row alone with s + i. One that
    is the remote model's own has the name of its method as `native` (see `conformance.native`).

    `options` are those of a run that is short and stops by itself, `further` other ones of which the same is to hold,
    `cached` those with which keys and values are kept; `length` is the option that says how many tokens there are in
    the end, the prompt's included. `block` is how many tokens `options` denoise together, where that is no size of the
    model; `from_prompt` says that blocks begin behind the prompt, and a text ends with one.

    In `layout` a step's window is the stream, and `arguments(step)` are the layout's other arguments for this step,
    such as its noise level, or other tokens where the window is not all that the forward goes by.

    In an `absorbing` sampler what is revealed stays. With the options `ending(token)` a text ends after this token,
    None where none can end it; in an `open_ended` one it may be longer than the context, and begins with the text that
    the same seed gives within.
    """

    sample: Callable[..., Any]
    layout: str
    arguments: Callable[[Any], Mapping[str, Any]]
    options: Mapping[str, object] = field(default_factory=dict)
    further: tuple[Mapping[str, object], ...] = ()
    cached: Mapping[str, object] | None = None
    absorbing: bool = True
    ending: Callable[[int], Mapping[str, object]] | None = None
    open_ended: bool = False
    length: str = "length"
    native: str | None = None
    resumable: bool = True
    most_rows: int | None = None
    block: int | None = None
    from_prompt: bool = False
