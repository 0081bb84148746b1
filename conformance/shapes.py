"""Shapes as words: what each dimension of a hook's tensor is, read off two batch sizes and two lengths."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .pair import OTHER_BATCH
from .sizes import Size
from .spec import AdapterSpec, pattern_of

if TYPE_CHECKING:
    from .pair import Pair
    from .taps import Recording

UNKNOWN = "?"
"""A dimension that is neither batch nor positions nor a size of the model."""

NAMES = {"head": ("heads", "n_heads"), "kv_head": ("kv_heads", "n_key_value_heads", "heads", "n_heads")}
"""Under which names specs and configs keep a size, where it is not the word itself."""


@dataclass(frozen=True, slots=True)
class View:
    """The shape of one hook's tensor in one forward, and what its dimensions may be."""

    shape: tuple[int, ...]
    positions: int
    batch: int
    pair: Pair

    def value(self, word: str) -> int | None:
        """What a word stands for here, None where neither the spec nor the bridge's config says."""
        if word == "batch":
            return self.batch
        if word in ("pos", "query", "key"):
            return self.positions
        boot = self.pair.boot
        for name in NAMES.get(word, (word,)):
            stated = boot.spec.truths.get(name, Size(name))
            if isinstance(stated, int):
                return stated
            with contextlib.suppress(ValueError):
                return stated.of(boot.sizes) if isinstance(stated, Size) else None
            if isinstance(claimed := getattr(boot.bridge.cfg, name, None), int):
                return claimed
        return None


def views(pair: Pair, name: str) -> list[View]:
    """A canonical hook in a batch of two, in one of three, and on the longer miniature; absent where it is silent."""
    longer = pair.boot.longer.pairs[pair.layout.name]
    # Layers are alike, and the miniature may have fewer.
    there = name if name in longer.observed.taps else pattern_of(name).replace("{layer}", "0")
    seen = ((pair, pair.observed, pair.rows, name), (pair, pair.again, OTHER_BATCH, name))
    return [
        View(*_shape(where, recording, known), batch, where)
        for where, recording, batch, known in (*seen, (longer, longer.observed, longer.rows, there))
        if known in recording.taps
    ]


def _shape(pair: Pair, recording: Recording, name: str) -> tuple[tuple[int, ...], int]:
    """Shape of one firing, and the positions it should have: all, or its part of the stream."""
    calls, parts = recording.taps[name], pair.declared_calls(name)
    if len({call.shape for call in calls}) == 1 and pair.length % parts == 0:
        return tuple(calls[0].shape), pair.length // parts
    return tuple(recording.joined(name).shape), pair.length


def words(seen: Sequence[View]) -> tuple[str, ...]:
    """Every dimension in one word, the same in all views: batch, pos, a formula of the spec, or a constant.

    What is none of these is UNKNOWN; so is everything where the views differ in rank.
    """
    spec = seen[0].pair.boot.spec
    candidates = ("batch", "pos", *spec.axes, *spec.sizes)
    if len({len(view.shape) for view in seen}) > 1:
        return (UNKNOWN,)
    found = []
    for axis in range(len(seen[0].shape)):
        sizes = [view.shape[axis] for view in seen]
        fitting = (word for word in candidates if sizes == [view.value(word) for view in seen])
        constant = str(sizes[0]) if len(set(sizes)) == 1 else UNKNOWN
        found.append(next(fitting, constant))
    return tuple(found)


def position_axis(found: Sequence[str], spec: AdapterSpec) -> int | None:
    """The first dimension that grows with the stream, None for a tensor without positions."""
    return next((axis for axis, word in enumerate(found) if _follows_length(word, spec)), None)


def _follows_length(word: str, spec: AdapterSpec) -> bool:
    """Whether a dimension grows with the stream: `pos`, or a formula with the size that the length depends on."""
    if word == "pos":
        return True
    lengths = {name for layout in spec.layouts for span in layout.stream for name in Size(span.length).names}
    return word != "batch" and not lengths.isdisjoint(Size(word).names)
