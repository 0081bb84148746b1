"""The fields of a draft: what was seen, as a spec says it."""

from __future__ import annotations

from collections.abc import Iterator

from . import probing, words
from .pairing import LAYER
from .probing import Call
from .seen import Seen
from .text import Code

NAMED = {"right_padded": "padded", "everyone": "full"}
AXES = ("n", "d_model", "d_mlp", "d_vocab", "d_cond")


def fields(seen: Seen) -> dict[str, object]:
    """Every field that has something to say, in the order of docs/new-adapter.md."""
    spec, has_mask = seen.spec, "mask" in seen.sizes
    written: dict[str, object] = {
        "name": seen.name,
        "module": Code("__name__"),
        "architecture": spec.architecture,
        "auto_class": spec.auto_class,
        "adapter": seen.adapter,
        "fixture": Code(f'str(Path(__file__).parent / "{seen.name}")'),
        "overrides": dict(spec.overrides),
        "shim": Code("shim") if seen.shim.source else None,
        "sizes": sizes(seen),
        "layouts": tuple(layouts(seen)),
        "mask_token": Code('Size("mask")') if has_mask else None,
        "points": dict(seen.pairs.points),
        "truths": truths(seen),
        # What denoises all tokens of a text together has no next one.
        "capabilities": Code("NOT_CAUSAL") if seen.relation != "causal" else None,
        "rotary": rotary(seen),
        "bench": {spec.sizes[size]: large for size, large in words.BENCH.items() if size in seen.sizes},
        "axes": tuple(size for size in AXES if size in seen.sizes),
    }
    return {name: value for name, value in written.items() if value or name == "points"}


def sizes(seen: Seen) -> dict[str, str]:
    """Sizes and their fields; of blocks only where the model was found to have them."""
    blocks = any(str(call.relation) in probing.IN_BLOCKS for call in seen.probed.calls)
    return {size: field for size, field in seen.spec.sizes.items() if size != "block" or blocks}


def layouts(seen: Seen) -> Iterator[Code]:
    """One for every call that works; a guess where none does."""
    masked = ", masked=0.5" if "mask" in seen.sizes else ""
    for call in seen.probed.calls or (Call(1, None, ragged=True),):
        second = ', Span("n")' if call.spans == 2 else ","
        given = [f'"{level}": PerRow(0.0, 1.0)' for level in seen.probed.levels]
        given += [f'"{call.mask[0]}": Attend("{call.mask[1]}")'] if call.mask else []
        parts = [f'"{called(call)}"', f'stream=(Span("n"{masked}){second})', f"relation={call.relation or 'everyone'}"]
        parts += [f"arguments={{{', '.join(given)}}}"] if given else []
        parts += ['returns=("0", "n")'] if 0 < call.returned < call.spans * seen.sizes["n"] else []
        parts += ["ragged=True"] if call.ragged else []
        yield Code(in_parentheses("Layout", parts, 8))


def in_parentheses(name: str, parts: list[str], indent: int) -> str:
    """A call on one line, or with an argument a line where that is too long."""
    one = f"{name}({', '.join(parts)})"
    several = "".join(f"{' ' * (indent + 4)}{part},\n" for part in parts)
    return one if indent + len(one) < 120 else f"{name}(\n{several}{' ' * indent})"


def called(call: Call) -> str:
    """The name of a layout."""
    if call.spans == 2:
        return "train"
    return "plain" if call.mask is None else NAMED.get(str(call.relation), "blocks")


def rotary(seen: Seen) -> Code | None:
    """Rotation, where the config has its base."""
    base = next((seen.folder.config[name] for name in words.BASES if name in seen.folder.config), None)
    return None if base is None else Code(f"Rotary(base={float(base)!r})")


def truths(seen: Seen) -> dict[str, object]:
    """What the config says, or the names of classes, in TransformerLens's words."""
    config = seen.folder.config
    epsilon = next((name for name in words.EPSILONS if name in config), None)
    found = {
        "eps": Code(f'Value("{epsilon}")') if epsilon else None,
        "act_fn": next((config[name] for name in words.ACTIVATIONS if isinstance(config.get(name), str)), None),
        "normalization_type": seen.norm,
        "attention_dir": {None: None, "causal": "causal"}.get(seen.relation, "bidirectional"),
        "gated_mlp": f"{LAYER}.mlp.gate" in seen.pairs.points or None,
    }
    return {name: value for name, value in found.items() if value is not None}
