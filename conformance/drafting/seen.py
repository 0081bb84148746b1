"""All that was seen of a model folder and of its adapter: what a draft is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .. import checkpoint
from ..booting import auto_class
from ..layout import Layout, Span
from ..oracles.relations import everyone
from ..spec import AdapterSpec, in_one_line
from . import pairing, probing, words
from .folder import DraftError, Folder
from .pairing import LAYER, Pairing
from .probing import Probed


@dataclass(frozen=True, slots=True)
class Shim:
    """What a model's code needs to run with this transformers: a rotary initialiser, fields that its config drops."""

    rope: bool = False
    fields: Mapping[tuple[str, str], object] = field(default_factory=dict)

    def __call__(self, modeling: Any) -> None:
        """Give it to the modeling module."""
        from ..shims import default_rope

        if self.rope:
            default_rope(modeling)
        for (owner, name), value in self.fields.items():
            setattr(getattr(modeling, owner), name, value)

    @property
    def source(self) -> str:
        """The same as a function of a spec's module; empty where nothing is needed."""
        lines = ["    default_rope(modeling)"] if self.rope else []
        lines += [f"    modeling.{owner}.{name} = {value!r}" for (owner, name), value in self.fields.items()]
        head = ["def shim(modeling):", '    """What the code needs to run with this transformers."""']
        return "\n".join((*head, *lines)) if lines else ""

    def wider(self, error: Exception | None, config: Mapping[str, Any]) -> Shim | None:
        """One that also gives what an error says is missing; None where it says nothing that is known here."""
        if isinstance(error, KeyError) and error.args == ("default",) and not self.rope:
            return replace(self, rope=True)
        if not isinstance(error, AttributeError) or not hasattr(error.obj, "model_type"):
            return None
        owner, name = type(error.obj).__name__, str(error.name)
        known = name not in config or (owner, name) in self.fields
        return None if known else replace(self, fields={**self.fields, (owner, name): config[name]})


@dataclass(frozen=True)
class Seen:
    """A folder, its small model with the shim that it took, what that does when called, and the adapter's mapping."""

    name: str
    folder: Folder
    adapter: str | None
    spec: AdapterSpec
    model: Any
    shim: Shim
    sizes: Mapping[str, int]
    probed: Probed
    pairs: Pairing
    unread: str = ""
    """Why the adapter's mapping could not be read."""

    @property
    def relation(self) -> str | None:
        """Who was found to see whom, in the first call that works."""
        return self.probed.calls[0].relation if self.probed.calls else None

    @cached_property
    def out_of_order(self) -> list[str]:
        """Points that a forward passes in another order than in most models."""
        if not self.probed.calls:
            return []
        call, levels = self.probed.calls[0], dict.fromkeys(self.probed.levels, 0.5)
        model = probing.Model(self.model, self.sizes)
        return pairing.out_of_order(self.pairs.points, self.model, lambda: model.seen(call, levels))

    @property
    def norm(self) -> str | None:
        """What kind of norm stands before attention, by the name of its class."""
        path = self.pairs.points.get(f"{LAYER}.ln1")
        if path is None:
            return None
        called = type(self.model.get_submodule(path.rstrip("?").replace("{layer}", "0"))).__name__.lower()
        return next((kind for part, kind in words.NORMS.items() if part in called), None)


def look(name: str, folder: Folder, copy: Path, adapter: str | None) -> Seen:
    """Run the small model in `copy`, and read the mapping of the adapter that is to be judged on it.

    Raises:
        DraftError: there is no adapter to judge, or the code builds no model of this size.
    """
    chosen = pairing.adapter_class(folder, adapter)
    spec = AdapterSpec(
        name=name,
        module=__name__,
        architecture=folder.architecture,
        auto_class=_auto_class(folder),
        fixture=str(copy),
        overrides=folder.overrides,
        sizes=folder.sizes,
        layouts=(Layout("plain", (Span("n"),), everyone),),
        points={},
    )
    config = checkpoint.read_config(copy, spec)
    sizes = spec.resolve(config)
    model, shim, probed = _running(spec, folder, copy, config)
    proposals, unread = {}, ""
    try:
        proposals = pairing.proposed(chosen, copy, folder.overrides)
    except Exception as error:
        unread = in_one_line(error)
    pairs = pairing.pair(proposals, model, sizes["layers"])
    return Seen(name, folder, adapter, spec, model, shim, sizes, probed, pairs, unread)


def _auto_class(folder: Folder) -> str:
    """The key of auto_map by which the model is loaded."""
    if not any(str(path).endswith(f".{folder.architecture}") for path in folder.autos.values()):
        raise DraftError(
            f"--model {folder.path}: auto_map of config.json has no class {folder.architecture}; "
            "add it, as AutoModelForMaskedLM or another"
        )
    return str(auto_class(SimpleNamespace(auto_map=folder.autos), folder.architecture).__name__)


def _running(spec: AdapterSpec, folder: Folder, copy: Path, config: Mapping[str, Any]) -> tuple[Any, Shim, Probed]:
    """The model with its weights drawn, what it does, and the shim that it took, which grows by what is missing."""
    from ..subject import Boot

    shim, sizes = Shim(), spec.resolve(config)
    while True:
        made = replace(spec, shim=shim)
        try:
            model = Boot(made, checkpoint.materialise(copy, made), trusted=True).reference
        except Exception as error:
            wider = shim.wider(error, config)
            if wider is None:
                raise DraftError(
                    f"--model {folder.path}: its code builds no small model: {in_one_line(error)}; "
                    "make a small copy of the folder that works, and name that"
                ) from None
        else:
            probed = probing.probe(probing.Model(model, sizes))
            wider = None if probed.calls else shim.wider(probed.error, config)
            if wider is None:
                return model, shim, probed
        shim = wider
