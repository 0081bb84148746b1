"""The pair under comparison: a booted bridge and an independent reference, built from one checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import checkpoint, taps
from .booting import boot, known_spec, miniature, named
from .facts import Branch, Variant
from .layout import PerRow
from .pair import Pair
from .sizes import Size
from .spec import AdapterSpec, nearest
from .unfilled import nan_where_unfilled

if TYPE_CHECKING:
    from .workloads import Workload


@dataclass
class Boot:
    """One adapter on one checkpoint: the subject, the reference and what both were made from, built when asked for."""

    spec: AdapterSpec
    folder: Path
    trusted: bool
    forwards: Counter[str] = field(default_factory=Counter)
    amend: Callable[[Any], None] | None = None
    """Called with every booted bridge before anyone looks at it: where a mutant puts its defect back."""
    amend_elsewhere: str | None = None
    """The same for boots in other processes, as "module:function"."""
    shelf: dict[tuple[int, ...], Boot] = field(default_factory=dict, init=False, repr=False)
    """The same in other sizes."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json with the spec's overrides."""
        return checkpoint.read_config(self.folder, self.spec)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The spec's sizes for this checkpoint."""
        return self.spec.resolve(self.config)

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """What a layer adds to its stream, under this config."""
        return tuple(branch.of(self.config) for branch in self.spec.branches)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.sizes["layers"]

    @cached_property
    def params(self) -> dict[str, Tensor]:
        """Every tensor of the checkpoint, straight from the files."""
        return checkpoint.tensors(self.folder)

    def params_in(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The same with floats in another dtype; not kept, as in fp64 it is twice as large as the model."""
        return {n: t.to(dtype) if t.is_floating_point() else t for n, t in self.params.items()}

    @cached_property
    def bridge(self) -> Any:
        """The subject."""
        return self.boot_again()

    def boot_again(
        self,
        hf_model: torch.nn.Module | None = None,
        dtype: torch.dtype = torch.float32,
        folder: Path | None = None,
        consent: Mapping[str, bool] | None = None,
    ) -> Any:
        """A further boot of the subject, for checks whose sentence asks for one.

        From its folder or a copy of it, or around a model; `consent` is the flag as a user gives it, or leaves it out.
        """
        flags: Mapping[str, bool] = {"trust_remote_code": self.trusted} if consent is None else consent
        if hf_model is None and self.spec.built and flags.get("trust_remote_code"):
            hf_model = checkpoint.build(folder or self.folder, self.spec)
        with nan_where_unfilled():
            bridge = boot(
                folder or self.folder,
                self.spec.adapter,
                overrides=self.spec.overrides,
                hf_model=hf_model,
                dtype=dtype,
                **flags,
            )
        if self.spec.repair is not None:
            named(self.spec.repair)(bridge)
        if self.amend is not None:
            self.amend(bridge)
        return bridge

    @cached_property
    def reference(self) -> torch.nn.Module:
        """A model that shares nothing with the subject."""
        return self.construct()

    @cached_property
    def stand_in(self) -> torch.nn.Module:
        """The bundled miniature's code with this checkpoint's config and weights."""
        fixture = checkpoint.fixture_folder(str(self.spec.fixture))
        config = {**self.config, "auto_map": checkpoint.read_config(fixture, self.spec)["auto_map"]}
        model = checkpoint.construct(fixture, self.spec, config)
        model.load_state_dict(self.params)
        return model

    def construct(self) -> torch.nn.Module:
        """A further instance of the remote class, constructed on CPU and filled from the files."""
        model = checkpoint.construct(self.folder, self.spec, self.config)
        # Copied, not assigned: a model that a bridge is booted around must not write into the files' tensors.
        model.load_state_dict(self.params)
        return model

    @cached_property
    def oracle(self) -> Callable[..., Tensor] | None:
        """The architecture's plain equations, where the spec names them."""
        return None if self.spec.oracle is None else named(self.spec.oracle)

    def resized(self, fields: Mapping[str, object]) -> Boot:
        """The same adapter on the same code with other config fields, and weights drawn for them."""
        folder = checkpoint.materialise(self.folder, self.spec, fields)
        return Boot(self.spec, folder, self.trusted, self.forwards, amend=self.amend)

    def sized(self, **sizes: int) -> Boot:
        """The same in other sizes, by the spec's names of them; one for all who ask for these sizes."""
        wanted = {**self.sizes, **sizes}
        if wanted == self.sizes:
            return self
        key = tuple(wanted.values())
        if key not in self.shelf:
            self.shelf[key] = self.resized({self.spec.sizes[name]: size for name, size in sizes.items()})
        return self.shelf[key]

    def varied(self, variant: Variant) -> Boot:
        """The same adapter on a variant of the model."""
        fields = {n: value.of(self.sizes) if isinstance(value, Size) else value for n, value in variant.fields.items()}
        spec = replace(
            self.spec,
            layouts=variant.layouts or self.spec.layouts,
            points={point: path for point, path in self.spec.points.items() if point not in variant.without},
            # Facts speak of layouts that a variant need not have.
            limits=(),
            halves=None,
            cache=None,
            sampler=None,
        )
        return replace(self.resized(fields), spec=spec)

    @cached_property
    def variants(self) -> dict[str, Boot]:
        """The adapter at the sizes of its miniature on every variant of the model, by name."""
        return {name: self.small.varied(variant) for name, variant in self.spec.variants.items()}

    def turned(self, layout: str, argument: PerRow) -> Pair | None:
        """The pair in a layout under the first config at hand that turns an argument on or off."""
        for other in (self.small, *self.variants.values()):
            if layout in other.pairs and argument.acts(other.config) != argument.acts(self.config):
                return other.pairs[layout]
        return None

    @cached_property
    def small(self) -> Boot:
        """The adapter at the sizes of its miniature, whatever the checkpoint: what committed snapshots show."""
        if self.spec.fixture is None:
            return self
        sizes = checkpoint.own_fields(checkpoint.fixture_folder(self.spec.fixture))
        same = sizes.items() <= checkpoint.own_fields(self.folder).items()
        return self if same else self.resized(sizes)

    def afresh(self) -> Boot:
        """The same once more, on which nothing has run: tables that grow with what was asked are as they were."""
        return replace(self)

    @cached_property
    def bench_workloads(self) -> dict[str, Workload]:
        """What is timed, at a size at which arithmetic dominates; one boot for all of it, that has run before."""
        from .workloads import of_boot

        found = of_boot(self.resized(self.spec.bench))
        found["forward"].subject(), found["forward"].reference()
        return found

    @cached_property
    def ratios(self) -> Mapping[str, float]:
        """The committed baseline for this machine, by kind; empty without one."""
        from . import baselines

        return baselines.read(baselines.path_of(self.spec)).get(baselines.Machine.here(), {})

    @cached_property
    def longer(self) -> Boot:
        """The miniature again, two blocks longer: the second length of layouts whose length the config fixes."""
        n, block = (self.spec.sizes.get(name) for name in ("n", "block"))
        small = self.small
        if n is None:
            return small
        step = 2 * (small.sizes["block"] if block is not None else 1)
        return small.sized(n=small.sizes["n"] + step)

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """The pair in every layout, by the layout's name."""
        return {layout.name: Pair(self, layout) for layout in self.spec.layouts}

    @cached_property
    def canonical(self) -> dict[str, str]:
        """The canonical name behind every advertised one; TransformerLens makes its registry anew whenever asked."""
        return {name: str(point.name) for name, point in self.bridge.hook_dict.items()}

    @cached_property
    def refused(self) -> dict[str, Exception]:
        """Advertised hook names at which attaching is refused, and with which error."""
        refusals = {name: taps.attach_refusal(self.bridge, name) for name in taps.canonical_names(self.bridge)}
        return {name: error for name, error in refusals.items() if error is not None}


def example(adapter: str, layout: str) -> dict[str, Any]:
    """The inputs on which a known adapter is judged in a layout, on its bundled miniature: arguments by name.

    Raises:
        ValueError: the adapter is not known, or has no such layout.
    """
    spec = known_spec(adapter)
    if spec is None:
        raise ValueError(f"adapter: got {adapter!r}, want the name of a known one, or module:SPEC")
    pairs = Boot(spec, miniature(spec, adapter), trusted=True).pairs
    if layout not in pairs:
        raise ValueError(f"layout: {adapter} has no {layout!r}{nearest(layout, pairs)}")
    return pairs[layout].inputs
