"""BD3LM's sampler once more, for one text, in plain loops over the plain equations: what `denoise` must give.

It shares no code with the sampler, only the order in which it draws: a time and a place, then a number for every token.
"""

from __future__ import annotations

import math
from typing import Any


def denoise_plainly(
    boot: Any, prompt: list[int], length: int, seed: int, times: str, steps: int = 5000, mass: float = 0.9
) -> tuple[list[int], int]:
    """The text, and how often the model ran."""
    import torch

    block, vocabulary = boot.sizes["block"], boot.sizes["d_vocab"]
    mask = vocabulary - 1
    generator = torch.Generator().manual_seed(seed)
    params = boot.params_in(torch.float64)
    # The miniature's texts begin with its only special token.
    text, forwards = prompt or [65], 0
    while len(text) < length or mask in text:
        text = text + [mask] * (-len(text) % block or block * (mask not in text))
        t, kept = 1.0, None
        for step in range(steps):
            masked = [i for i in range(len(text) - block, len(text)) if text[i] == mask]
            if not masked:
                break
            if times == "grid":
                t = 1 - step / steps
            else:
                time, place = uniform(generator, 2)
                t *= time ** (1 / len(masked))
            if kept is None:
                kept, forwards = probabilities(boot, params, text, t, mass), forwards + 1
            numbers = uniform(generator, block, vocabulary)
            before = list(text)
            for row, i in enumerate(range(len(text) - block, len(text))):
                if times == "grid":
                    stays = (t - 1 / steps) / t if step < steps - 1 else 0.0
                    chances = [p * (1 - stays) for p in kept[row]]
                    chances[mask] = stays
                    if i in masked:
                        text[i] = winner(chances, numbers[row])
                elif i == masked[int(place * len(masked))]:
                    text[i] = winner(kept[row], numbers[row])
            if text != before:
                kept = None
    return text[:length], forwards


def uniform(generator: Any, *shape: int) -> list[Any]:
    import torch

    return torch.rand(shape, generator=generator, dtype=torch.float64).tolist()


def probabilities(boot: Any, params: Any, text: list[int], t: float, mass: float) -> list[list[float]]:
    """What the last block could be: SUBS as the released code has it, then the nucleus."""
    import torch

    n, block, mask = boot.sizes["n"], boot.sizes["block"], boot.sizes["d_vocab"] - 1
    window = text[-n:]
    sigma = min(-math.log(1 - t), -math.log(1e-3)) if t < 1 else -math.log(1e-3)
    inputs = {"input_ids": torch.tensor([window]), "timesteps": torch.tensor([sigma]), "sample_mode": True}
    logits = boot.oracle(params, boot.config, inputs, lambda name, tensor: tensor)[0, -block:]
    found = []
    for row, token in zip(logits.tolist(), window[-block:], strict=True):
        row[mask] -= 1e6
        total = math.fsum(math.exp(x) for x in row)
        probs = [math.exp(x) / total for x in row] if token == mask else [float(v == token) for v in range(len(row))]
        ranked = sorted(range(len(row)), key=lambda v: -probs[v])
        inside, reached = ranked[:1], probs[ranked[0]]
        for v in ranked[1:]:
            reached += probs[v]
            if reached > mass:
                break
            inside.append(v)
        weight = math.fsum(probs[v] for v in inside)
        found.append([probs[v] / weight if v in inside else 0.0 for v in range(len(row))])
    return found


def winner(chances: list[float], numbers: list[float]) -> int:
    """The token that comes first when token v arrives at rate `chances[v]`."""
    scores = [p / (1e-10 - math.log(u + 1e-10)) for p, u in zip(chances, numbers, strict=True)]
    return scores.index(max(scores))
