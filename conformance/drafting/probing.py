"""What a small model does when it is called: its arguments, who sees whom in it, and which masks it heeds.

All of it is told of the model's own code, built apart from any bridge. It makes a spec likely, not true: that a model
is what its paper says is for a person to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..masks import ENCODINGS, KEYS_ONLY
from ..oracles import relations
from ..taps import logits_of
from . import words

Relation = Callable[[Any, Any, int, int], Any]

RELATIONS: Mapping[str, Relation] = {
    "everyone": relations.everyone,
    "causal": relations.causal,
    "block_causal": relations.block_causal,
    "block_diffusion_training": relations.block_diffusion_training,
}
"""Relations that are looked for; through many layers each is still itself."""

IN_BLOCKS = frozenset({"block_causal", "block_diffusion_training"})
"""Those that go by the block size of the config."""

HANDED: Mapping[str, Relation] = {
    "right_padded": relations.right_padded,
    "blocks_of(4)": relations.blocks_of(4),
}
"""What is handed over to see whether it is heeded: in an encoding of keys alone, and in one of pairs."""

KNOWN = {**RELATIONS, **HANDED}

MOVED = 1e-4
"""By how much of the largest logit one has to move to count as moved: far above rounding, far below a token's part."""


@dataclass(frozen=True, slots=True)
class Call:
    """A way to call the model that works: the length of the stream in n, and who was found to see whom.

    `mask` is an argument with the encoding of the relation that was handed over in it.
    """

    spans: int
    relation: str | None
    mask: tuple[str, str] | None = None
    ragged: bool = False
    returned: int = 0


@dataclass(slots=True)
class Probed:
    """What was found: arguments for noise levels, those that nobody knows, and the calls that work."""

    levels: dict[str, bool] = field(default_factory=dict)
    """Whether each moves the logits under this config."""
    unknown: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    error: Exception | None = None
    """What the first plain call raised, where it did."""


@dataclass(frozen=True, slots=True)
class Model:
    """A small model and its sizes."""

    module: nn.Module
    sizes: Mapping[str, int]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """What its forward takes."""
        return dict(inspect.signature(self.module.forward).parameters)

    def run(self, ids: Tensor, **arguments: Any) -> Tensor:
        """Its logits."""
        with torch.no_grad():
            return logits_of(self.module(input_ids=ids, **arguments))

    def called(self, ids: Tensor, call: Call, levels: Mapping[str, float]) -> Tensor:
        """Its logits in one way to call it; where that hands over no relation that is known, everyone sees everyone."""
        rows, length = ids.shape
        given: dict[str, Any] = {name: torch.full((rows,), value) for name, value in levels.items()}
        if call.mask is not None:
            name, encoding = call.mask
            allowed = self.related(KNOWN[call.relation or "everyone"], length)
            keep, every = allowed.any(dim=0).expand(rows, -1), allowed.expand(rows, -1, -1)
            given[name] = ENCODINGS[encoding](keep, every, self.sizes.get("heads", 1))
        return self.run(ids, **given)

    def seen(self, call: Call, levels: Mapping[str, float]) -> Tensor:
        """Whose logits move when one token changes, bool `query key`."""
        length, ids = call.spans * self.sizes["n"], self.sizes["d_vocab"] - 2
        base = torch.randint(ids, (length,), generator=torch.Generator().manual_seed(0))
        rows, every = base.repeat(length + 1, 1), torch.arange(length)
        rows[every, every] = (base + 1) % ids
        logits = self.called(rows, call, levels)
        return ((logits - logits[-1]).abs().amax(-1)[:-1] > MOVED * logits.abs().max()).T

    def related(self, relation: Relation, length: int) -> Tensor:
        """A relation as a tensor, bool `query key`."""
        index = torch.arange(length)
        block = self.sizes.get("block", length)
        return torch.as_tensor(relation(index[:, None], index[None, :], self.sizes["n"], block))


def probe(model: Model) -> Probed:
    """Call a model in every way that its signature suggests."""
    found, given = Probed(), model.parameters
    found.levels = dict.fromkeys((name for name in given if name in words.LEVELS), True)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found.unknown = [
        name
        for name, parameter in given.items()
        if parameter.default is parameter.empty and parameter.kind not in kinds
        if name not in ("input_ids", *words.LEVELS, *words.MASKS)
    ]
    found.calls = list(_calls(model, found))
    if found.calls:
        for name in found.levels:
            found.levels[name] = _acts(model, found, name)
    return found


def _calls(model: Model, found: Probed) -> Iterator[Call]:
    levels, plain = dict.fromkeys(found.levels, 0.5), False
    for spans in (1, 2):
        try:
            seen = model.seen(Call(spans, None), levels)
        except Exception as error:
            found.error = found.error or error
            continue
        plain = True
        yield Call(spans, _told(model, seen), ragged=_ragged(model, spans, levels), returned=len(seen))
        break
    for name in words.MASKS:
        if name in model.parameters:
            for call in _heeded(model, name, levels):
                if not plain and call.mask and call.mask[1] not in KEYS_ONLY:
                    yield replace(call, relation="everyone")
                yield call


def _heeded(model: Model, name: str, levels: Mapping[str, float]) -> Iterator[Call]:
    """Ways to hand over a mask that the model heeds, one for keys and one for pairs at most."""
    done = set()
    for encoding in words.ENCODINGS:
        handed = "right_padded" if encoding in KEYS_ONLY else "blocks_of(4)"
        call = Call(1, handed, (name, encoding), returned=model.sizes["n"])
        if handed in done:
            continue
        try:
            seen = model.seen(call, levels)
        except Exception:
            continue
        if len(seen) != seen.shape[1]:
            continue
        # A token always reaches its own logits, past attention.
        itself = torch.eye(len(seen), dtype=torch.bool)
        if torch.equal(seen | itself, model.related(HANDED[handed], len(seen)) | itself):
            done.add(handed)
            yield replace(call, ragged=handed != "right_padded")


def _told(model: Model, seen: Tensor) -> str | None:
    queries, keys = seen.shape
    for name, relation in RELATIONS.items():
        if name in IN_BLOCKS and "block" not in model.sizes:
            continue
        if torch.equal(model.related(relation, keys)[:queries], seen):
            return name
    return None


def _ragged(model: Model, spans: int, levels: Mapping[str, float]) -> bool:
    """Whether a shorter stream is taken, too."""
    try:
        ids = torch.zeros(1, spans * model.sizes["n"] - 1, dtype=torch.long)
        shorter = model.called(ids, Call(spans, None), levels)
    except Exception:
        return False
    return spans == 1 and shorter.shape[1] == ids.shape[1]


def _acts(model: Model, found: Probed, name: str) -> bool:
    """Whether another noise level moves the logits."""
    call = found.calls[0]
    ids = torch.arange(call.spans * model.sizes["n"])[None] % model.sizes["d_vocab"]
    levels = dict.fromkeys(found.levels, 0.5)
    low, high = (model.called(ids, call, {**levels, name: level}) for level in (0.1, 0.9))
    return not torch.equal(low, high)
