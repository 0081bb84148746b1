"""GIDD's sampler once more, for one text, in plain loops over any model that is called with ids and a mask.

It shares no code with the model's own: probabilities are lists of floats, every forward sees the whole canvas under a
mask (clean sees clean, noise sees all), and nothing is kept between them. Only the order in which it draws is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

MASK, EOS, PAD = 3, 1, 2


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def mixing(log_snr: float, noise_type: float, vocabulary: int) -> list[float]:
    """The distribution of a token that is all noise."""
    share = sigmoid(log_snr + noise_type)
    return [1 - share if v == MASK else share / (vocabulary - 1) for v in range(vocabulary)]


def level(config: Any, j: int, steps: int, schedule: str) -> tuple[float, float]:
    """Signal and log-SNR after j of the steps towards noise."""
    most, least = sigmoid(config.max_log_snr), sigmoid(config.min_log_snr)
    u = j / steps
    alpha = least + (most - least) * (1 - u if schedule == "linear" else (1 + math.cos(math.pi * u)) / 2)
    return alpha, max(config.min_log_snr, min(config.max_log_snr, math.log(alpha / (1 - alpha))))


def clean(row: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """Probabilities of what a token was, by its logits."""
    if temperature == 0:
        best = max(row)
        return [float(v == row.index(best)) for v in range(len(row))]
    weights = [math.exp((x - max(row)) / temperature) for x in row]
    ranked = sorted(range(len(row)), key=lambda v: -weights[v])[:top_k]
    whole, passed, left = math.fsum(weights[v] for v in ranked), 0.0, []
    for v in ranked:
        if top_p is None or passed < top_p:
            left.append(v)
        passed += weights[v] / whole
    whole = math.fsum(weights[v] for v in left)
    return [weights[v] / whole if v in left else 0.0 for v in range(len(row))]


def generate_plainly(
    model: Callable[..., Any],
    config: Any,
    prompt: list[int],
    *,
    max_length: int,
    block_length: int,
    steps: int,
    seed: int,
    min_length: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    sampling_method: str = "ancestral",
    noise_schedule: str = "linear",
    tokens_per_step: int = 1,
    eos: int = EOS,
) -> tuple[list[int], int]:
    """The text, and how many forwards would denoise it; `model(ids, attention_mask=...)` gives logits."""
    import torch

    n, vocabulary, forwards = config.max_position_embeddings, config.vocab_size, 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        coins = torch.rand((1, n), dtype=torch.float64)[0].tolist()
        tokens = torch.randint(vocabulary, (1, n))[0].tolist()
        share = sigmoid(config.min_log_snr + config.noise_type)
        canvas = [token if coin < share else MASK for coin, token in zip(coins, tokens, strict=True)]
        canvas[: len(prompt)] = prompt
        end = min(n, len(prompt) + max_length)
        start = len(prompt)
        while start < end:
            block, told = range(start, min(start + block_length, end)), None
            for j in range(steps, 0, -1):
                if told is None:
                    told, forwards = rows(model, canvas, start, block), forwards + 1
                    for i, row in zip(block, told, strict=True):
                        row[MASK] = -math.inf
                        if i < len(prompt) + min_length:
                            row[eos] = -math.inf
                guesses = [clean(row, temperature, top_k, top_p) for row in told]
                before = canvas[block.start : block.stop]
                t, s = (level(config, at, steps, noise_schedule) for at in (j, j - 1))
                if sampling_method == "ancestral":
                    after = drawn([origin(z, x, t, s, config) for z, x in zip(before, guesses, strict=True)])
                else:
                    after = resampled(before, guesses, mixing(t[1], config.noise_type, vocabulary), tokens_per_step)
                canvas[block.start : block.stop] = after
                if after != before:
                    told = None
            start = block.stop
            if eos in canvas[1:]:
                break
    if eos in canvas[1:]:
        first = canvas.index(eos, 1)
        canvas[first:] = [PAD] * (n - first)
    return canvas[:end], forwards


def rows(model: Callable[..., Any], canvas: list[int], start: int, block: range) -> list[list[float]]:
    """Logits of a block, from a forward over the whole canvas."""
    import torch

    noisy = torch.arange(len(canvas)) >= start
    allowed = noisy[:, None] | ~noisy[None, :]
    with torch.no_grad():
        logits = model(torch.tensor([canvas]), attention_mask=allowed[None])
    found: list[list[float]] = logits[0, block.start : block.stop].double().tolist()
    return found


def origin(z: int, x: list[float], t: tuple[float, float], s: tuple[float, float], config: Any) -> list[float]:
    """Weights of what token z was one step ago, by Bayes' rule: what was likely then, times how it became z."""
    pi_t, pi_s = (mixing(log_snr, config.noise_type, len(x)) for _, log_snr in (t, s))
    through = t[0] / s[0]
    fresh = max(0.0, (1 - t[0]) * pi_t[z] - through * (1 - s[0]) * pi_s[z])
    weights = [(s[0] * x[v] + (1 - s[0]) * pi_s[v]) * ((through if v == z else 0.0) + fresh) for v in range(len(x))]
    return weights if any(weights) else [float(v == z) for v in range(len(x))]


def resampled(before: list[int], guesses: list[list[float]], pi: list[float], many: int) -> list[int]:
    """The tokens with the best reason to be something else are drawn again."""
    whole = sum(pi[z] for z in before) or 1.0
    score = [(max(x) - x[z]) * pi[z] / whole for z, x in zip(before, guesses, strict=True)]
    chosen = sorted(range(len(before)), key=lambda i: -score[i])[:many]
    fresh = drawn(guesses)
    return [fresh[i] if i in chosen else z for i, z in enumerate(before)]


def drawn(weights: list[list[float]]) -> list[int]:
    import torch

    found: list[int] = torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1)[:, 0].tolist()
    return found
