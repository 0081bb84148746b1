"""Dream's sampler in plain loops, over any callable model: written from a description of it, token by token.

Rows and positions are looped over one by one; what is drawn at random is drawn in the order in which the released
sampler draws, for all masked tokens of all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Model = Callable[[Tensor, "Tensor | str", "Tensor | None"], Tensor]
"""`model(ids, attention_mask, position_ids)`: logits `batch pos d_vocab`, where row i speaks of token i + 1."""


@dataclass
class Plain:
    """Options of a run, by the released names; `history` holds the canvas after every step."""

    mask: int
    new: int
    steps: int = 512
    eps: float = 1e-3
    alg: str = "origin"
    alg_temp: float | None = None
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    tokens_hook: Callable[[int | None, Tensor, Any], Tensor] = lambda step, x, logits: x
    logits_hook: Callable[[int, Tensor, Tensor], Tensor] = lambda step, x, logits: logits
    history: list[Tensor] = field(default_factory=list)


def denoise(model: Model, prompt: Tensor, run: Plain, keep: Tensor | None = None) -> Tensor:
    """Ids `batch prompt+new`; `keep`, `batch prompt`, is 0 where the prompt is padding."""
    rows, given = prompt.shape
    x = torch.full((rows, given + run.new), run.mask)
    x[:, :given] = prompt
    attention, positions = padding(keep, given + run.new)
    times = torch.linspace(1, run.eps, run.steps + 1)
    x = run.tokens_hook(None, x, None)
    for step in range(run.steps):
        raw = model(x, attention, positions)
        aligned = raw.clone()
        for i in range(1, x.shape[1]):
            aligned[:, i] = raw[:, i - 1]
        aligned = run.logits_hook(step, x, aligned)
        last = step + 1 == run.steps
        share = torch.tensor(1.0) if last else 1 - times[step + 1] / times[step]
        x = (by_chance if run.alg == "origin" else by_confidence)(x, aligned, share, run)
        x = run.tokens_hook(step, x, aligned)
        run.history.append(x.clone())
    return x


def padding(keep: Tensor | None, length: int) -> tuple[Tensor | str, Tensor | None]:
    """Who sees whom, bool `batch 1 query key`, and positions `batch pos`; without padding the released words for it."""
    if keep is None or all(bool(value) for value in keep.flatten()):
        return "full", None
    rows = len(keep)
    allowed = torch.zeros(rows, 1, length, length, dtype=torch.bool)
    positions = torch.zeros(rows, length, dtype=torch.long)
    for row in range(rows):
        kept = [*(bool(value) for value in keep[row]), *[True] * (length - keep.shape[1])]
        for i in range(length):
            positions[row, i] = sum(kept[: i + 1]) - 1 if kept[i] else 1
            for j in range(length):
                allowed[row, 0, i, j] = kept[i] and kept[j]
    return allowed, positions


def hidden(x: Tensor, mask: int) -> list[tuple[int, int]]:
    """Row and column of every mask, row after row."""
    return [(row, i) for row in range(len(x)) for i in range(x.shape[1]) if int(x[row, i]) == mask]


def distribution(logits: Tensor, run: Plain) -> Tensor:
    """Probabilities `d_vocab` of one token, once sharpened and narrowed."""
    values = logits / run.temperature if run.temperature > 0 else logits.clone()
    least = torch.finfo(values.dtype).min
    if run.top_p is not None and run.top_p < 1:
        order = sorted(range(len(values)), key=lambda v: -float(values[v]))
        mass = torch.cumsum(torch.softmax(values[order], 0), 0)
        # The first one that goes over p is kept.
        for place in range(1, len(order)):
            if mass[place - 1] > run.top_p:
                values[order[place]] = least
    if run.top_k is not None:
        bound = sorted(values.tolist(), reverse=True)[min(run.top_k, len(values)) - 1]
        values[values < bound] = least
    return torch.softmax(values, 0)


def draw(logits: list[Tensor], run: Plain) -> tuple[list[Tensor], list[int]]:
    """Distributions of tokens, and a token from each."""
    each = [distribution(one, run) for one in logits]
    if not each or run.temperature == 0:
        return each, [int(one.argmax()) for one in each]
    return each, torch.distributions.Categorical(probs=torch.stack(each)).sample().tolist()


def by_chance(x: Tensor, logits: Tensor, share: Tensor, run: Plain) -> Tensor:
    """Each masked token is revealed with the same probability, independently of the others."""
    places = hidden(x, run.mask)
    lots = torch.rand(len(places))
    revealed = [place for place, lot in zip(places, lots, strict=True) if lot < share]
    _, tokens = draw([logits[place] for place in revealed], run)
    x = x.clone()
    for place, token in zip(revealed, tokens, strict=True):
        x[place] = token
    return x


def by_confidence(x: Tensor, logits: Tensor, share: Tensor, run: Plain) -> Tensor:
    """In every row as many tokens are revealed as the batch has masks on average, times the share: the surest."""
    places = hidden(x, run.mask)
    each, tokens = draw([logits[place] for place in places], run)
    sure = torch.full(x.shape, -torch.inf)
    for place, probs, token in zip(places, each, tokens, strict=True):
        first, second = sorted(probs.tolist(), reverse=True)[:2]
        sure[place] = {
            "maskgit_plus": float(probs[token]),
            "topk_margin": first - second,
            "entropy": float((probs * torch.log(probs + 1e-10)).sum()),
        }[run.alg]
    number = int(torch.tensor(len(places)) / len(x) * share)
    if number == 0:
        return x
    if run.alg_temp:
        chosen = torch.multinomial(torch.softmax(sure / run.alg_temp, dim=-1), num_samples=number).tolist()
    else:
        chosen = [sorted(range(x.shape[1]), key=lambda i: -float(row[i]))[:number] for row in sure]
    drawn, x = dict(zip(places, tokens, strict=True)), x.clone()
    for row, columns in enumerate(chosen):
        for i in columns:
            x[row, i] = drawn.get((row, i), int(x[row, i]))
    return x
