"""The pair under comparison: a booted bridge and an independent reference, built from one checkpoint."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import checkpoint, compare, taps
from .booting import boot
from .spec import AdapterSpec, Layout, PerRow, Size, pattern_of

BATCH = 2
SEED = 20260101


class SubjectRaised(Exception):
    """The bridge raised where a check expected it to run; the suite turns it into a finding."""


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
class Boot:
    """One adapter on one checkpoint: the subject, the reference and what both were made from, built when asked for."""

    spec: AdapterSpec
    folder: Path
    trusted: bool
    forwards: Counter[str] = field(default_factory=Counter)
    amend: Callable[[Any], None] | None = None
    """Called with every booted bridge before anyone looks at it: where a mutant puts its defect back."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json with the spec's overrides."""
        return checkpoint.read_config(self.folder, self.spec)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The spec's sizes for this checkpoint."""
        return self.spec.resolve(self.config)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.sizes["layers"]

    @cached_property
    def params(self) -> dict[str, Tensor]:
        """Every tensor of the checkpoint, straight from the files."""
        from safetensors.torch import load_file

        return {name: t for path in checkpoint.weight_files(self.folder) for name, t in load_file(path).items()}

    @cached_property
    def bridge(self) -> Any:
        """The subject."""
        return self.boot_again()

    def boot_again(self) -> Any:
        """A further boot of the subject, for checks whose sentence is about booting."""
        bridge = boot(self.folder, self.spec.adapter, trust_remote_code=self.trusted, overrides=self.spec.overrides)
        if self.amend is not None:
            self.amend(bridge)
        return bridge

    @cached_property
    def reference(self) -> torch.nn.Module:
        """The remote class, constructed on CPU and filled from the files; shares nothing with the subject."""
        model = checkpoint.construct(self.folder, self.spec, self.config)
        model.load_state_dict(self.params)
        return model

    @cached_property
    def oracle(self) -> Callable[..., Tensor] | None:
        """The architecture's plain equations, where the spec names them."""
        if self.spec.oracle is None:
            return None
        module, _, name = self.spec.oracle.partition(":")
        found: Callable[..., Tensor] = getattr(importlib.import_module(module), name)
        return found

    def resized(self, fields: Mapping[str, object]) -> Boot:
        """The same adapter on the same code with other config fields, and weights drawn for them."""
        folder = checkpoint.materialise(self.folder, self.spec, fields)
        return Boot(self.spec, folder, self.trusted, self.forwards, self.amend)

    @cached_property
    def small(self) -> Boot:
        """The adapter at the sizes of its miniature, whatever the checkpoint: what committed snapshots show."""
        if self.spec.fixture is None:
            return self
        sizes = checkpoint.own_fields(checkpoint.fixture_folder(self.spec.fixture))
        same = sizes.items() <= checkpoint.own_fields(self.folder).items()
        return self if same else self.resized(sizes)

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """The pair in every layout, by the layout's name."""
        return {layout.name: Pair(self, layout) for layout in self.spec.layouts}

    @cached_property
    def refused(self) -> dict[str, Exception]:
        """Advertised hook names at which attaching is refused, and with which error."""
        refusals = {name: taps.attach_refusal(self.bridge, name) for name in taps.canonical_names(self.bridge)}
        return {name: error for name, error in refusals.items() if error is not None}


@dataclass
class Pair:
    """Subject, reference and oracle in one layout, on one seeded input, each recorded once."""

    boot: Boot
    layout: Layout

    @cached_property
    def length(self) -> int:
        """Positions in the stream."""
        return self.layout.length(self.boot.sizes)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The layout's arguments by name, drawn from a fixed seed."""
        return self.draw(BATCH, SEED)

    def draw(self, batch: int, seed: int) -> dict[str, Any]:
        """Inputs of this layout for another batch size or seed."""
        sizes, generator = self.boot.sizes, torch.Generator().manual_seed(seed)
        mask = None if self.boot.spec.mask_token is None else self.boot.spec.mask_token.of(sizes)
        vocabulary = sizes["d_vocab"] if mask is None else mask
        spans = []
        for span in self.layout.stream:
            shape = (batch, Size(span.length).of(sizes))
            ids = torch.randint(vocabulary, shape, generator=generator)
            hidden = torch.rand(shape, generator=generator) < span.masked
            spans.append(ids if mask is None else ids.masked_fill(hidden, mask))
        drawn: dict[str, Any] = {"input_ids": torch.cat(spans, dim=1)}
        for name, value in self.layout.arguments.items():
            if isinstance(value, PerRow):
                value = value.low + (value.high - value.low) * torch.rand(batch, generator=generator)
            drawn[name] = value
        return drawn

    def call(self, inputs: Mapping[str, Any] | None = None, **extra: Any) -> Tensor:
        """Logits of the subject; SubjectRaised when it does not return a tensor."""
        logits = self.guarded(self.boot.bridge, inputs, **extra)
        if not isinstance(logits, Tensor):
            raise SubjectRaised(f"the forward returned {type(logits).__name__}, no tensor")
        return logits

    def guarded(self, run: Callable[..., Any], inputs: Mapping[str, Any] | None = None, **extra: Any) -> Any:
        """`run` on this layout's inputs the way a user calls a bridge: tokens first, the rest by name."""
        self.boot.forwards["subject"] += 1
        arguments = dict(self.inputs if inputs is None else inputs)
        with blamed_on_subject(), torch.no_grad():
            return run(arguments.pop("input_ids"), **arguments, **extra)

    def reference_logits(self, inputs: Mapping[str, Any] | None = None) -> Tensor:
        """Logits of the reference."""
        self.boot.forwards["reference"] += 1
        with torch.no_grad():
            logits: Tensor = self.boot.reference(**(self.inputs if inputs is None else inputs))
        return logits

    @cached_property
    def plain(self) -> Tensor:
        """The subject's logits with no hook attached."""
        return self.call()

    @cached_property
    def names(self) -> list[str]:
        """Canonical hook names at which hooks attach."""
        return [name for name in taps.canonical_names(self.boot.bridge) if name not in self.boot.refused]

    @cached_property
    def observed(self) -> taps.Recording:
        """The subject with an observer at every hook."""
        with blamed_on_subject():
            return taps.record_bridge(self.call, self.boot.bridge, self.names)

    @cached_property
    def reference(self) -> taps.Recording:
        """The reference with every paired module recorded under its point's hook names."""
        return taps.record_modules(self.reference_logits, self.boot.reference, self.boot.spec.points, self.boot.layers)

    @cached_property
    def exact(self) -> taps.Recording:
        """The oracle in fp64; empty without one."""
        return self._oracle(torch.float64)

    @cached_property
    def rounded(self) -> taps.Recording:
        """The oracle in fp32; empty without one."""
        return self._oracle(torch.float32)

    def _oracle(self, dtype: torch.dtype) -> taps.Recording:
        boot = self.boot
        if boot.oracle is None:
            return taps.Recording()
        boot.forwards["oracle"] += 1
        # On a long stream the scores alone would fill the memory; only what someone asks for is kept.
        names = boot.bridge.hook_dict.keys() | self.reference.taps.keys()
        return taps.record_oracle(boot.oracle, boot.params, boot.config, self.inputs, dtype, names)

    def want(self, name: str) -> Tensor | None:
        """What the tap should hold: the reference at a module boundary, else the oracle.

        What an alias stands for is never read off the bridge, which could point it anywhere.
        """
        if name in self.reference.taps:
            return self.reference.joined(name)
        return self.exact.joined(name) if name in self.exact.taps else None

    def allowed(self, name: str) -> float:
        """The budget at a tap: a multiple of its noise floor, fp32 against the oracle's fp64, and of an ULP."""
        want = self.reference.logits if name == "logits" else self.want(name)
        if want is None or not want.is_floating_point():
            return 0.0
        return max(compare.LEAST_ULPS * compare.ulp(want), compare.NOISE_MULTIPLE * self.noise(name))

    def noise(self, name: str) -> float:
        """How far fp32 arithmetic alone moves this tap."""
        if name == "logits":
            return compare.distance(self.reference.logits, self.exact.logits) if self.boot.oracle else 0.0
        if name not in self.exact.taps:
            return 0.0
        single = self.reference if name in self.reference.taps else self.rounded
        return compare.distance(single.joined(name), self.exact.joined(name))

    def mismatches(self) -> list[str]:
        """Canonical taps that differ from what they should hold, in firing order."""
        return [name for name in dict.fromkeys(self.observed.order) if self.differs(name)]

    def differs(self, name: str) -> bool:
        """Whether a recorded tap lies outside its budget."""
        want = self.want(name)
        return want is not None and any(compare.close(name, self.observed.joined(name), want, self.allowed(name)))

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

    def batched(self, rows: int) -> dict[str, Any]:
        """The first row of the inputs, `rows` times over."""
        return {
            name: value[:1].repeat(rows, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value
            for name, value in self.inputs.items()
        }

    def edited(self, names: Iterable[str], edit: taps.Edit, inputs: Mapping[str, Any] | None = None) -> Tensor:
        """Logits of the subject while `edit` stands at the given hooks."""
        with blamed_on_subject():
            return taps.run_hooked(lambda: self.call(inputs), self.boot.bridge, names, edit)
