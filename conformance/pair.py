"""One layout of the pair under comparison: subject, reference and oracle on one input, each recorded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import compare, taps
from .layout import Attend, Layout, PerRow
from .masks import ENCODINGS
from .sizes import Size
from .spec import pattern_of
from .witnesses import Witnesses

if TYPE_CHECKING:
    from .backward import Backward
    from .subject import Boot

BATCH, SEED = 2, 20260101
LONG = 2048
"""Tokens in a batch of which every tap fits the memory; where two rows are longer, one is drawn."""

OTHER_BATCH, OTHER_SEED = 3, 1


class SubjectRaised(Exception):
    """The bridge raised where a check expected it to run; the suite turns it into a finding."""


REFUSALS = (NotImplementedError, ValueError, TypeError)
"""Types of errors that are meant as a refusal; anything else is an accident deep inside."""


@contextmanager
def blamed_on_subject() -> Iterator[None]:
    """Turn whatever is raised inside into SubjectRaised."""
    try:
        yield
    except SubjectRaised:
        raise
    except Exception as error:
        raise SubjectRaised(f"{type(error).__name__}: {error}") from error


@dataclass
class Pair:
    """Subject, reference and oracle in one layout, on one seeded input, each recorded once."""

    boot: Boot
    layout: Layout
    given: Mapping[str, Any] | None = None
    """Inputs other than the seeded ones."""
    shelf: dict[Any, Any] = field(default_factory=dict, repr=False)
    """Further runs that serve several checks, by what made them."""

    @cached_property
    def length(self) -> int:
        """Positions in the stream."""
        return int(self.inputs["input_ids"].shape[1])

    @cached_property
    def returned(self) -> slice:
        """The positions of the stream that have logits."""
        bounds = self.layout.returns or ("0", str(self.length))
        return slice(*(Size(bound).of(self.boot.sizes) for bound in bounds))

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The layout's arguments by name, drawn from a fixed seed unless others were given."""
        rows = BATCH if BATCH * self.layout.length(self.boot.sizes) <= LONG else 1
        return self.draw(rows, SEED) if self.given is None else dict(self.given)

    def other(self, batch: int, seed: int, length: int | None = None, **arguments: Any) -> Pair:
        """The same pair on another input: of a ragged stream the first `length` tokens, some arguments replaced."""
        drawn = {**self.draw(batch, seed), **arguments}
        cut = self.attending({**drawn, "input_ids": drawn["input_ids"][:, :length]})
        return Pair(self.boot, self.layout, {**cut, **arguments, "input_ids": cut["input_ids"]})

    @property
    def rows(self) -> int:
        """Rows in the batch."""
        return len(self.inputs["input_ids"])

    @cached_property
    def with_rows(self) -> Pair:
        """The pair in a batch of more than one row: itself, unless its stream is so long that one row was drawn."""
        return self if self.rows > 1 else self.other(BATCH, SEED)

    @cached_property
    def relation(self) -> Tensor:
        """Who may attend to whom by the closed form, bool `query key`."""
        return self._related(self.length)

    def _related(self, length: int) -> Tensor:
        index, sizes = torch.arange(length), self.boot.sizes
        n, block = sizes.get("n", length), sizes.get("block", length)
        return torch.as_tensor(self.layout.relation(index[:, None], index[None, :], n, block))

    @cached_property
    def for_everyone(self) -> bool:
        """Whether all queries may attend to the same tokens."""
        return bool((self.relation == self.relation[:1]).all())

    def attending(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The same inputs with every relation that is handed over made for their stream."""
        encodings = {name: value for name, value in self.layout.arguments.items() if isinstance(value, Attend)}
        if not encodings:
            return dict(inputs)
        rows, length = inputs["input_ids"].shape[:2]
        allowed = self._related(length)
        keep, heads = allowed.any(dim=0).expand(rows, -1), self.boot.sizes.get("heads", 1)
        every = allowed.expand(rows, -1, -1)
        return {**inputs, **{name: ENCODINGS[how.encoding](keep, every, heads) for name, how in encodings.items()}}

    def draw(self, batch: int, seed: int) -> dict[str, Any]:
        """Inputs of this layout for another batch size or seed."""
        sizes, generator = self.boot.sizes, torch.Generator().manual_seed(seed)
        mask = None if self.boot.spec.mask_token is None else self.boot.spec.mask_token.of(sizes)
        vocabulary = sizes["d_vocab"] - (mask is not None)
        spans = []
        for span in self.layout.stream:
            shape = (batch, Size(span.length).of(sizes))
            ids = torch.randint(vocabulary, shape, generator=generator)
            # Of all ids but the mask's.
            ids = ids if mask is None else ids + (ids >= mask).long()
            hidden = torch.rand(shape, generator=generator) < span.masked
            spans.append(ids if mask is None else ids.masked_fill(hidden, mask))
        drawn: dict[str, Any] = {"input_ids": torch.cat(spans, dim=1)}
        for name, value in self.layout.arguments.items():
            if isinstance(value, PerRow):
                value = value.low + (value.high - value.low) * torch.rand(batch, generator=generator)
            drawn[name] = value
        return self.attending(drawn)

    def call(self, inputs: Mapping[str, Any] | None = None, *, bridge: Any = None, **extra: Any) -> Tensor:
        """Logits of the subject, or of another boot of it; SubjectRaised when it does not return a tensor."""
        logits = self.guarded(self.boot.bridge if bridge is None else bridge, inputs, **extra)
        if not isinstance(logits, Tensor):
            raise SubjectRaised(f"the forward returned {type(logits).__name__}, no tensor")
        return logits

    def guarded(
        self, run: Callable[..., Any], inputs: Mapping[str, Any] | None = None, *, grad: bool = False, **extra: Any
    ) -> Any:
        """`run` on this layout's inputs the way a user calls a bridge: tokens first, the rest by name."""
        self.boot.forwards["subject"] += 1
        return self.refused(run, inputs, grad=grad, **extra)

    def refused(
        self, run: Callable[..., Any], inputs: Mapping[str, Any] | None = None, *, grad: bool = False, **extra: Any
    ) -> Any:
        """The same for what is to be refused before the model runs, which is no forward."""
        arguments = {**(self.inputs if inputs is None else inputs), **extra}
        with blamed_on_subject(), torch.set_grad_enabled(grad):
            return run(arguments.pop("input_ids"), **arguments)

    def reference_logits(self, inputs: Mapping[str, Any] | None = None, model: torch.nn.Module | None = None) -> Tensor:
        """Logits of the reference, or of another model of its class."""
        self.boot.forwards["reference"] += 1
        with torch.no_grad():
            return taps.logits_of((model or self.boot.reference)(**(self.inputs if inputs is None else inputs)))

    @cached_property
    def plain(self) -> Tensor:
        """The subject's logits with no hook attached."""
        return self.call()

    @cached_property
    def names(self) -> list[str]:
        """Canonical hook names at which hooks attach."""
        return [name for name in taps.canonical_names(self.boot.bridge) if name not in self.boot.refused]

    def canonical(self, name: str) -> str:
        """The canonical name behind an alias; a name that is no hook stays itself."""
        return self.boot.canonical.get(name, name)

    def entering(self, layer: int) -> str:
        """The canonical hook at which the residual stream enters a layer."""
        return self.canonical(self.boot.spec.streams[0].replace("{layer}", str(layer)))

    @cached_property
    def observed(self) -> taps.Recording:
        """The subject with an observer at every hook; what is the reference's bit for bit is one tensor with it."""
        like = self.reference
        with blamed_on_subject():
            return taps.record_bridge(self.call, self.boot.bridge, self.names, like=like)

    @cached_property
    def again(self) -> taps.Recording:
        """The subject once more on other tokens, with another batch size: what fires, and in which shapes."""
        with blamed_on_subject():
            inputs = self.draw(OTHER_BATCH, OTHER_SEED)
            return taps.record_bridge(lambda: self.call(inputs), self.boot.bridge, self.names, keep=taps.shape_only)

    def cache(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and entries of `run_with_cache`; an entry without a tensor counts as none."""
        got = self.guarded(self.boot.bridge.run_with_cache, inputs, **options)
        if not isinstance(got, tuple) or len(got) != 2 or not isinstance(got[0], Tensor):
            raise SubjectRaised("run_with_cache did not return logits and a cache")
        return got[0], {name: value for name, value in got[1].items() if isinstance(value, Tensor)}

    @cached_property
    def cached(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and copied entries of one `run_with_cache` without options, shared by all that only read them."""
        logits, entries = self.cache()
        copies = {(value.data_ptr(), value.stride(), value.shape): value.clone() for value in entries.values()}
        return logits, {name: copies[value.data_ptr(), value.stride(), value.shape] for name, value in entries.items()}

    @cached_property
    def witnesses(self) -> Witnesses:
        """Reference and oracle on this input, and what they say of every tap."""
        boot = self.boot
        return Witnesses(
            lambda: taps.record_modules(self.reference_logits, boot.reference, boot.spec.points, boot.layers),
            self._oracle,
        )

    @property
    def reference(self) -> taps.Recording:
        """The reference with every paired module recorded under its point's hook names."""
        return self.witnesses.reference

    @property
    def exact(self) -> taps.Recording:
        """The oracle in fp64; empty without one."""
        return self.witnesses.exact

    def _oracle(self, dtype: torch.dtype, against: taps.Recording) -> taps.Recording:
        boot = self.boot
        if boot.oracle is None:
            return taps.Recording()
        boot.forwards["oracle"] += 1
        # What was compared already is not asked for again.
        names = self.known_names - against.apart.keys()
        return taps.record_oracle(
            boot.oracle, boot.params_in(dtype), boot.config, self.inputs, dtype, names, against=against
        )

    @cached_property
    def known_names(self) -> frozenset[str]:
        """Names that someone may ask a witness for; on a long stream all taps would fill the memory."""
        return frozenset(self.boot.bridge.hook_dict) | self.reference.taps.keys()

    @cached_property
    def backward(self) -> Backward:
        """Gradients of subject, oracle and reference on this input."""
        from .backward import Backward

        return Backward(self)

    def want(self, name: str) -> Tensor | None:
        """What a tap or the logits should be; None where no witness knows."""
        return self.witnesses.want(name)

    def allowed(self, name: str, budget: compare.Budget = compare.WITNESS) -> compare.Allowed:
        """How far a tap or the logits may lie from that."""
        return self.witnesses.allowed(name, budget)

    def mismatches(self) -> list[str]:
        """Canonical taps that differ from what they should hold, in firing order."""
        return [name for name in dict.fromkeys(self.observed.order) if self.differs(name)]

    def differs(self, name: str) -> bool:
        """Whether what a hook shows lies outside the budget of what its name, canonical or alias, stands for."""
        return self.witnesses.contradict(name, self.observed, self.canonical(name))

    @cached_property
    def divergence(self) -> str:
        """The first tap that differs, in firing order, in one sentence; empty when every tap agrees."""
        wrong = self.mismatches()
        if not wrong:
            return ""
        order = list(dict.fromkeys(self.observed.order))
        before = order.index(wrong[0])
        since = f"equal up to {order[before - 1]}; " if before else ""
        return f"{since}first differs at {wrong[0]}{self._call_of(wrong[0])}"

    def _call_of(self, name: str) -> str:
        got, want = self.observed.taps[name], self.reference.taps.get(name, [])
        if len(got) < 2 or len(got) != len(want):
            return ""
        for number, (one, other) in enumerate(zip(got, want, strict=True), 1):
            if any(compare.close(name, one, other, self.allowed(name))):
                return f", call {number} of {len(got)}"
        return ""

    def declared_calls(self, name: str) -> int:
        """How often the layout says a hook fires in one forward."""
        component = pattern_of(name.rpartition(".")[0])
        return self.layout.fires.get(component, 1)

    @property
    def row(self) -> dict[str, Any]:
        """The first row of the inputs: enough where no value is compared."""
        return self.batched(1)

    def batched(self, rows: int) -> dict[str, Any]:
        """The first row of the inputs, `rows` times over."""
        return {
            name: value[:1].repeat(rows, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value
            for name, value in self.inputs.items()
        }

    def edited(
        self, names: Iterable[str], edit: taps.Edit | Sequence[taps.Edit], inputs: Mapping[str, Any] | None = None
    ) -> Tensor:
        """Logits of the subject while `edit`, or several one after the other, stand at the given hooks."""
        edits = edit if isinstance(edit, Sequence) else [edit]
        with blamed_on_subject():
            return taps.run_hooked(lambda: self.call(inputs), self.boot.bridge, names, *edits)
