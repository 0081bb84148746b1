"""LLaDA's sampler once more, for one text, in plain loops over any model: what `conformance.samplers.llada` must give.

It shares no code with the sampler, only the order in which it draws: a number for every token of the block, if the
temperature asks for it, then one for every place of it, if these are revealed at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Model = Callable[[list[int]], list[list[float]]]
"""`model(ids)`: the logits of one text."""


def answer_plainly(
    model: Model,
    prompt: list[int],
    length: int,
    *,
    steps: int,
    block_length: int,
    mask: int,
    seed: int,
    temperature: float = 0.0,
    cfg_scale: float = 0.0,
    remasking: str = "low_confidence",
    banned: tuple[int, ...] = (),
) -> tuple[list[int], int]:
    """The text, and how often the model ran."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> list[Any]:
        return torch.rand(shape, generator=generator, dtype=torch.float64).tolist()

    text, forwards = prompt + [mask] * (length - len(prompt)), 0
    starts = range(len(prompt), length, block_length)
    for start in starts:
        block = range(start, min(start + block_length, length))
        of_block, rounds = len(block), steps // len(starts)
        # So many at first as the others get, and one more in the first ones.
        schedule = [of_block // rounds + (number < of_block % rounds) for number in range(rounds)]
        for reveal in schedule:
            if reveal == 0:
                break
            rows, forwards = model(text), forwards + 1
            if cfg_scale:
                blind, forwards = model([mask] * len(prompt) + text[len(prompt) :]), forwards + 1
                rows = [
                    [u + (cfg_scale + 1) * (c - u) for c, u in zip(with_it, without, strict=True)]
                    for with_it, without in zip(rows, blind, strict=True)
                ]
            rows = [[-math.inf if v in banned else x for v, x in enumerate(row)] for row in rows]
            numbers = uniform(of_block, len(rows[0])) if temperature else None
            places = uniform(of_block) if remasking == "random" else None
            drawn, certainty = {}, {}
            for i in block:
                if text[i] != mask:
                    continue
                # The exponents are as of a row that has been shifted, which moves no comparison.
                weights = [math.exp(x - max(rows[i])) for x in rows[i]]
                race = list(weights)
                if numbers is not None:
                    race = [w / (-math.log(u)) ** temperature for w, u in zip(weights, numbers[i - start], strict=True)]
                race[mask] = -1.0
                drawn[i] = race.index(max(race))
                certainty[i] = weights[drawn[i]] / math.fsum(weights) if places is None else places[i - start]
            for i in sorted(drawn, key=lambda i: -certainty[i])[:reveal]:
                text[i] = drawn[i]
    return text, forwards
