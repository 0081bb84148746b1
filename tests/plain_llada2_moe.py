"""LLaDA2's sampler in plain loops, over any callable model: written from a description of it, token by token.

Blocks, steps and positions are looped over one by one; tokens are drawn for all positions of a block at once, in the
order in which the released sampler draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Model = Callable[[Tensor, Tensor], Tensor]
"""`model(ids, mask)`: logits `1 pos d_vocab`; the mask is added to the scores, `1 1 query key`."""


@dataclass
class Plain:
    """Options of a run, by the released names; `canvases` holds every window before its forward."""

    mask_id: int
    gen_length: int
    block_length: int = 32
    steps: int = 32
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    eos_early_stop: bool = False
    minimal_topk: int = 1
    threshold: float = 0.95
    eos_id: int = 156892
    canvases: list[list[int]] = field(default_factory=list)


def denoise(model: Model, prompt: list[int], run: Plain) -> list[int]:
    """The continuation up to its first end of text; with `eos_early_stop`, once that is written, prompt and all."""
    size, given = run.block_length, len(prompt)
    blocks = math.ceil((given + run.gen_length) / size)
    canvas = prompt + [run.mask_id] * (blocks * size - given)
    steps = min(run.steps, run.gen_length // run.minimal_topk)
    for block in range(given // size, blocks):
        end = (block + 1) * size
        for step in range(steps):
            open_ = [place for place in range(end - size, end) if canvas[place] == run.mask_id]
            if not open_:
                break
            run.canvases.append(canvas[:end])
            logits = model(torch.tensor([canvas[:end]]), visible(end, size))[0]
            drawn, chance = draw([logits[place] for place in range(end - size, end)], run)
            sure = {place: chance[place - end + size] for place in open_}
            for place in committed(sure, quota(size, steps, step), run.threshold):
                canvas[place] = drawn[place - end + size]
            if run.eos_early_stop:
                text = canvas[given:end]
                if run.eos_id in text and run.mask_id not in text[: text.index(run.eos_id)]:
                    return prompt + text[: text.index(run.eos_id) + 1]
        if run.eos_id in canvas[given:end]:
            break
    text = canvas[given : given + run.gen_length]
    return text[: text.index(run.eos_id) + 1] if run.eos_id in text else text


def visible(length: int, size: int) -> Tensor:
    """0 where a token sees another, in its own block or before it, and -inf elsewhere; in bfloat16, as released."""
    mask = torch.empty(1, 1, length, length, dtype=torch.bfloat16)
    for query in range(length):
        for key in range(length):
            mask[0, 0, query, key] = 0.0 if key // size <= query // size else -math.inf
    return mask


def quota(size: int, steps: int, step: int) -> int:
    """Tokens that a step is to commit: equal shares, what is left over to the first ones."""
    return size // steps + (1 if step < size % steps else 0)


def committed(sure: dict[int, float], wanted: int, threshold: float) -> list[int]:
    """All places of whose tokens the model is sure, or the surest ones where these are too few."""
    certain = [place for place, chance in sure.items() if chance > threshold]
    if len(certain) >= wanted:
        return certain
    return sorted(sure, key=lambda place: sure[place], reverse=True)[:wanted]


def draw(rows: list[Tensor], run: Plain) -> tuple[list[int], list[float]]:
    """One token for each row, and the probability with which it was drawn."""
    chances = torch.stack([probabilities(row, run) for row in rows])
    drawn = [int(token) for token in torch.multinomial(chances, 1)[:, 0]]
    return drawn, [float(row[token]) for row, token in zip(chances, drawn, strict=True)]


def probabilities(logits: Tensor, run: Plain) -> Tensor:
    """What is drawn from; a temperature of 0 is that of 1."""
    if run.temperature != 0 and run.temperature != 1:
        logits = logits / run.temperature
    ranked = sorted(range(len(logits)), key=lambda token: float(logits[token]), reverse=True)
    if run.top_k is not None:
        ranked = ranked[: run.top_k]
    if run.top_p is not None:
        share = torch.softmax(logits[ranked], dim=-1)
        before = [float(share[:rank].sum()) for rank in range(len(ranked))]
        ranked = [token for token, mass in zip(ranked, before, strict=True) if mass <= run.top_p]
    kept = torch.full_like(logits, -math.inf)
    kept[ranked] = logits[ranked]
    return torch.softmax(kept, dim=-1)
