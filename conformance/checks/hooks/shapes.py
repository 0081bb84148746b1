"""Shapes: what the dimensions of a hook's tensor are, and which of them is position. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...pair import Pair

NORMS = ("ln1", "ln2", "ln_final")

SHAPES = {
    "batch pos": ("embed.hook_in",),
    "batch pos d_model": (
        *("hook_embed", "embed.hook_out", "unembed.hook_in"),
        *(f"hook_{name}" for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")),
        *(f"{norm}.hook_{name}" for norm in NORMS for name in ("in", "normalized", "out")),
        *("mlp.hook_in", "mlp.hook_out"),
    ),
    "batch pos 1": tuple(f"{norm}.hook_scale" for norm in NORMS),
    "batch pos head d_head": ("attn.hook_q", "attn.hook_rot_q", "attn.hook_z"),
    "batch pos kv_head d_head": ("attn.hook_k", "attn.hook_rot_k", "attn.hook_v"),
    "batch head query key": ("attn.hook_attn_scores", "attn.hook_pattern"),
    "batch pos head d_model": ("attn.hook_result",),
    "batch pos d_mlp": ("mlp.hook_pre", "mlp.hook_post"),
    "batch pos d_vocab": ("unembed.hook_out", "hook_unembed"),
}
"""TransformerLens's shapes by the ends of names, of hooks and of aliases."""


@requirement("hooks/shapes", level=MUST, needs=("hooks/multiplicity",))
def shapes(pair: Pair) -> Iterator[Finding]:
    """Every dimension of a hook's tensor MUST be the batch, the positions of the stream or of its part, or a size of
    the model, and a name to which TransformerLens gives a shape MUST have that one.

    Code that indexes a position or a head reads another one without a word where two dimensions are flattened into
    one (OPT), heads are not split off, or a width is another module's.
    """
    from ... import shapes

    for name in pair.observed.taps:
        seen = shapes.views(pair, name)
        if shapes.UNKNOWN in (found := shapes.words(seen)):
            got = " and ".join(str(list(view.shape)) for view in seen)
            yield Finding("unknown-axis", name, got=got, want="batch, pos and sizes, which the spec lists as axes")
        elif not found:
            yield Finding("unknown-axis", name, got="a number", want="a tensor with a batch")
    for name, point in pair.boot.bridge.hook_dict.items():
        if (wanted := _wanted(name)) and point.name in pair.observed.taps:
            seen = shapes.views(pair, point.name)
            for view in seen:
                values = [view.value(word) for word in wanted.split()]
                if len(values) != len(view.shape) or any(
                    value not in (None, size) for value, size in zip(values, view.shape, strict=True)
                ):
                    yield Finding("wrong-shape", name, got=" ".join(shapes.words(seen)), want=wanted)
                    break


def _wanted(name: str) -> str:
    """The shape that TransformerLens gives to a name, empty where it gives none."""
    return next((shape for shape, ends in SHAPES.items() for end in ends if f".{name}".endswith(f".{end}")), "")


@requirement("hooks/position-axis", level=MUST, needs=("hooks/shapes",))
def position_axis(pair: Pair) -> Iterator[Finding]:
    """Asked for some positions, caching hooks MUST cut along the position axis of every tensor, and leave one whole
    that has none.

    TransformerLens takes the second dimension for the position unless a hook point says otherwise; cut along its
    channels, a tensor has the right rank and means nothing.
    """
    import torch

    from ... import shapes
    from ...pair import blamed_on_subject

    bridge = pair.boot.bridge
    with blamed_on_subject():
        cache, hooks, _ = bridge.get_caching_hooks(pos_slice=(0, 1))
    store = {bridge.hook_dict[name].name: hook for name, hook in hooks}
    for name, calls in pair.observed.taps.items():
        words = shapes.words(shapes.views(pair, name))
        if shapes.UNKNOWN in words or name not in store:
            continue
        axis = shapes.position_axis(words, pair.boot.spec)
        with blamed_on_subject():
            store[name](calls[0], hook=bridge.hook_dict[name])
        got, want = cache[name], calls[0] if axis is None else calls[0].narrow(axis, 0, 1)
        if got.shape != want.shape or not torch.equal(got, want):
            cut = [word for word, one, other in zip(words, got.shape, calls[0].shape, strict=True) if one != other]
            yield Finding(
                "wrong-axis",
                name,
                got=f"cut along {', '.join(cut) or 'nothing'}",
                want="left whole, as it has no positions" if axis is None else f"cut along {words[axis]}",
                detail=" ".join(words),
            )
