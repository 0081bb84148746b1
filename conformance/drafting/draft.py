"""The draft of one adapter: a model folder looked at, and what was seen of it as the fields of a spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import checkpoint
from ..layout import Layout, Span
from ..oracles.relations import everyone
from ..spec import AdapterSpec, in_one_line
from . import pairing, probing, text, words
from .folder import DraftError, Folder
from .pairing import LAYER, Pairing
from .probing import Call, Probed
from .text import Code

MOST_PARAMETERS = 2_000_000


@dataclass(frozen=True, slots=True)
class Shim:
    """What a model's code needs to run at all: a rotary initialiser, fields that its config class drops."""

    rope: bool = False
    fields: Mapping[tuple[str, str], object] = field(default_factory=dict, hash=False)

    def __call__(self, modeling: Any) -> None:
        """Give it to the module."""
        from ..shims import default_rope

        if self.rope:
            default_rope(modeling)
        for (owner, name), value in self.fields.items():
            setattr(getattr(modeling, owner), name, value)

    def __bool__(self) -> bool:
        return self.rope or bool(self.fields)

    @property
    def source(self) -> str:
        """A function that does the same."""
        lines = ["    default_rope(modeling)"] if self.rope else []
        lines += [f"    modeling.{owner}.{name} = {value!r}" for (owner, name), value in self.fields.items()]
        return "\n".join(
            ["def shim(modeling):", '    """What the code needs to run with this transformers."""', *lines]
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a spec, and the questions that it leaves open, by field."""

    text: str
    todo: Mapping[str, str]


def draft(name: str, folder: Folder, copy: Path, adapter: str | None) -> Draft:
    """Look at the small model in `copy`, whose code runs, and at the adapter's mapping.

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
    sizes, shim, amended = spec.resolve(config), Shim(), replace(spec)
    while True:
        model, shim = _built(amended, copy, shim)
        probed = probing.probe(probing.Model(model, sizes))
        dropped = _dropped(probed.error, config) if not probed.calls else None
        if dropped is None:
            break
        shim = replace(shim, fields={**shim.fields, dropped: config[dropped[1]]})
    try:
        proposals = pairing.proposed(chosen, copy, True, folder.overrides)
        told = ""
    except Exception as error:
        proposals, told = {}, in_one_line(error)
    pairs = pairing.pair(proposals, model, sizes["layers"])
    return _Drafted(name, folder, spec, model, sizes, probed, pairs, told, shim, adapter).made()


def _auto_class(folder: Folder) -> str:
    """The key of auto_map that TransformerLens loads this architecture by, or the first that has its class."""
    from transformer_lens.model_bridge.sources.transformers.helpers import get_hf_model_class_for_architecture

    held = [auto for auto, path in folder.autos.items() if str(path).endswith(f".{folder.architecture}")]
    if not held:
        raise DraftError(
            f"--model {folder.path}: auto_map of config.json has no class {folder.architecture}; "
            "add it, as AutoModelForMaskedLM or another"
        )
    try:
        wanted = get_hf_model_class_for_architecture(folder.architecture).__name__
    except Exception:
        wanted = ""
    return wanted if wanted in held else held[0]


def _built(spec: AdapterSpec, copy: Path, shim: Shim) -> tuple[Any, Shim]:
    """The small model with its weights drawn, and the shim that it took."""
    from ..subject import Boot

    problem: Exception | None = None
    for trial in dict.fromkeys((shim, replace(shim, rope=True))):
        made = replace(spec, shim=trial)
        try:
            return Boot(made, checkpoint.materialise(copy, made), trusted=True).reference, trial
        except Exception as error:
            problem = problem or error
    raise DraftError(
        f"--model {spec.fixture}: its code builds no model of this size: {in_one_line(problem or Exception())}; make a "
        "small copy of the folder that works, and name that"
    )


def _dropped(error: Exception | None, config: Mapping[str, Any]) -> tuple[str, str] | None:
    """A config class and a field that config.json has, the class drops, and the forward reads."""
    if not isinstance(error, AttributeError) or error.name not in config or not hasattr(error.obj, "model_type"):
        return None
    return type(error.obj).__name__, str(error.name)


@dataclass(frozen=True, slots=True)
class _Drafted:
    """Everything that was seen, from which text and questions are made."""

    name: str
    folder: Folder
    spec: AdapterSpec
    model: Any
    sizes: Mapping[str, int]
    probed: Probed
    pairs: Pairing
    untold: str
    shim: Shim
    adapter: str | None

    def made(self) -> Draft:
        """The spec as text."""
        todo = dict(self.questions())
        fields: dict[str, object] = {"name": self.name, "module": Code("__name__")}
        fields |= {"architecture": self.spec.architecture, "auto_class": self.spec.auto_class}
        fields |= {"adapter": self.adapter} if self.adapter else {}
        fields |= {"fixture": Code(f'str(Path(__file__).parent / "{self.name}")')}
        fields |= {"overrides": dict(self.spec.overrides)} if self.spec.overrides else {}
        fields |= {"shim": Code("shim")} if self.shim else {}
        fields |= {"sizes": dict(self.spec.sizes)}
        fields |= {"mask_token": Code('Size("mask")')} if "mask" in self.sizes else {}
        fields |= {"layouts": tuple(self.layouts()), "points": dict(self.pairs.points)}
        fields |= self.rotary() | {"truths": self.truths()}
        fields |= {"capabilities": Code("NOT_CAUSAL")} if self.relation != "causal" else {}
        fields |= {"bench": {self.spec.sizes[size]: most for size, most in words.BENCH.items() if size in self.sizes}}
        fields |= {"axes": tuple(size for size in ("n", "d_model", "d_mlp", "d_vocab", "d_cond") if size in self.sizes)}
        fields |= {"todo": todo}
        return Draft(text.module(self.spec.architecture, fields, self.shim.source if self.shim else ""), todo)

    @property
    def relation(self) -> str | None:
        """Who was found to see whom where no mask was handed over."""
        return self.probed.calls[0].relation if self.probed.calls else None

    def layouts(self) -> Iterator[Code]:
        """One for every call that works; one that is a guess where none does."""
        masked = ", masked=0.5" if "mask" in self.sizes else ""
        for call in self.probed.calls or (Call(1, None, ragged=True),):
            name = _name(call)
            stream = f'(Span("n"{masked}),)' if call.spans == 1 else f'(Span("n"{masked}), Span("n"))'
            parts = [f'"{name}"', f"stream={stream}", f"relation={call.relation or 'everyone'}"]
            given = [f'"{level}": PerRow(0.0, 1.0)' for level in self.probed.levels]
            given += [f'"{call.mask[0]}": Attend("{call.mask[1]}")'] if call.mask else []
            parts += [f"arguments={{{', '.join(given)}}}"] if given else []
            parts += ['returns=("0", "n")'] if 0 < call.returned < call.spans * self.sizes["n"] else []
            parts += ["ragged=True"] if call.ragged else []
            one = f"Layout({', '.join(parts)})"
            several = "".join(f"            {part},\n" for part in parts)
            yield Code(one if len(one) <= 110 else f"Layout(\n{several}        )")

    def rotary(self) -> dict[str, object]:
        """Rotation, where the config has its base."""
        base = next((self.folder.config[name] for name in words.BASES if name in self.folder.config), None)
        return {} if base is None else {"rotary": Code(f"Rotary(base={float(base)!r})")}

    def truths(self) -> dict[str, object]:
        """What the config says, or the names of classes, in TransformerLens's words."""
        found: dict[str, object] = {}
        config = self.folder.config
        epsilon = next((name for name in words.EPSILONS if name in config), None)
        found |= {"eps": Code(f'Value("{epsilon}")')} if epsilon else {}
        activation = next((config[name] for name in words.ACTIVATIONS if isinstance(config.get(name), str)), None)
        found |= {"act_fn": activation} if activation else {}
        found |= {"normalization_type": self.norm} if self.norm else {}
        found |= {"attention_dir": "causal" if self.relation == "causal" else "bidirectional"} if self.relation else {}
        return found | ({"gated_mlp": True} if f"{LAYER}.mlp.gate" in self.pairs.points else {})

    @property
    def norm(self) -> str | None:
        """What kind of norm stands before attention, by the name of its class."""
        path = self.pairs.points.get(f"{LAYER}.ln1")
        if path is None:
            return None
        called = type(self.model.get_submodule(path.rstrip("?").replace("{layer}", "0"))).__name__.lower()
        return next((kind for part, kind in words.NORMS.items() if part in called), None)

    def questions(self) -> Iterator[tuple[str, str]]:
        """What a person has to say, by field."""
        count = sum(each.numel() for each in self.model.parameters())
        if count > MOST_PARAMETERS:
            yield "fixture", f"the miniature has {count} parameters; which fields of its config.json can be smaller?"
        if self.probed.error and not self.probed.calls:
            raised = in_one_line(self.probed.error)
            yield "shim", f"No call of the model's own forward works: {raised}; what does it need?"
        elif self.shim:
            yield "shim", "The model does not run here without it; is its bridge to be booted around it (`built=True`)?"
        yield "layouts", " ".join(self.about_layouts())
        yield "points", " ".join(self.about_points())
        if "mask" not in self.sizes:
            yield "mask_token", "which id is the mask? No field of the config says; until then no token is masked"
        if self.truths():
            yield "truths", "told of the config and of names of classes; is each what the model computes?"

    def about_layouts(self) -> Iterator[str]:
        """What was found out about calls, and what only the paper says."""
        plain = [call for call in self.probed.calls if call.mask is None]
        if self.relation and plain:
            yield f"The model's code behaves like `{self.relation}` where no mask is given; is that the paper's?"
        elif plain:
            yield "Who may attend to whom? The model's code fits no relation that is known here; `everyone` is a guess."
        elif self.probed.calls:
            yield "No call without a mask works; is the relation that the caller hands over the paper's?"
        else:
            yield "Who may attend to whom? No call worked, so `everyone` is a guess."
        for name in self.probed.unknown:
            yield f"The forward wants `{name}`: what is it?"
        for name, acts in self.probed.levels.items():
            yield f"`{name}` is drawn from 0 to 1: which noise levels does the model know?"
            if not acts:
                yield f"Under this config `{name}` changes nothing: on which fields does that depend (`when=`)?"

    def about_points(self) -> Iterator[str]:
        """How far the adapter's mapping and the model's modules go together."""
        if self.untold:
            yield f"The adapter's mapping cannot be read: {self.untold}. Write the points by hand."
            return
        yield "Taken from the adapter's own mapping, which is what is judged: is each the module of that role?"
        if self.pairs.absent:
            yield f"Left out, as the model has no such module: {', '.join(self.pairs.absent)}."
        if self.pairs.spare:
            yield f"Modules with parameters that no point is for: {', '.join(self.pairs.spare)}."
        for odd in self.odd():
            yield f"In a forward comes {odd}."

    def odd(self) -> list[str]:
        """Points that are passed in another order than in most models."""
        if not self.probed.calls:
            return []
        call, levels = self.probed.calls[0], dict.fromkeys(self.probed.levels, 0.5)
        model = probing.Model(self.model, self.sizes)
        return pairing.out_of_order(self.pairs.points, self.model, lambda: model.seen(call, levels))


def _name(call: Call) -> str:
    if call.spans == 2:
        return "train"
    if call.mask is None:
        return "plain"
    return {"right_padded": "padded", "everyone": "full"}.get(str(call.relation), "blocks")
