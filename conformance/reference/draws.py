"""What a sampler of masked diffusion draws, from what, and at which noise levels: functions of tensors alone.

Source: Arriola et al., "Block Diffusion" (arXiv 2503.09573); SUBS is that of Sahoo et al. (arXiv 2406.07524),
first-hitting times those of Zheng et al. (arXiv 2409.02908). Probabilities are in float64, in which a race of 50 000
tokens has no ties and no tokens that float32 could never draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

SIGMA_MAX = -math.log(1e-3)
"""Where the loglinear schedule ends: one token in a thousand is still clean."""
TINY = 1e-10
"""Keeps the logarithms of a race finite, as in the released code."""


def sigma_of(t: Tensor) -> Tensor:
    """Noise level sigma of a time t in [0, 1]: loglinear, -log(1 - t), no more than `SIGMA_MAX`."""
    return (-torch.log1p(-t)).clamp(max=SIGMA_MAX)


def subs(logits: Tensor, tokens: Tensor, mask: int) -> Tensor:
    """Log-probabilities of the clean tokens, `... pos d_vocab`: none is a mask, and what is revealed stays."""
    ids = torch.arange(logits.shape[-1], device=logits.device)
    guessed = logits.double().masked_fill(ids == mask, -torch.inf).log_softmax(-1)
    certain = torch.zeros_like(guessed).masked_fill(tokens[..., None] != ids, -torch.inf)
    return torch.where((tokens == mask)[..., None], guessed, certain)


def nucleus(probs: Tensor, mass: float) -> Tensor:
    """The most probable tokens whose cumulative probability, their own included, is at most `mass`, renormalised.

    The most probable one always stays. This is stricter than the usual rule, which keeps the token that crosses.
    """
    if mass == 1:
        return probs
    ranked, order = probs.sort(dim=-1, descending=True, stable=True)
    kept = ranked.cumsum(-1) <= mass
    kept[..., 0] = True
    chosen = torch.zeros_like(probs).scatter(-1, order, ranked * kept)
    return chosen / chosen.sum(-1, keepdim=True)


def race(probs: Tensor, uniform: Tensor) -> Tensor:
    """One token per distribution, `...`: the winner of an exponential race, which need not be normalised."""
    return (probs / (TINY - (uniform + TINY).log())).argmax(-1)


def diluted(probs: Tensor, mask: int, t: Tensor, s: Tensor) -> Tensor:
    """What a token of `batch pos` is at time s if it is masked at t: still masked with probability s/t."""
    stays = (s / t)[:, None]
    mixed = probs * (1 - stays[..., None])
    mixed[..., mask] = stays
    return mixed


def first_hit(t: Tensor, uniform: Tensor, masks: Tensor) -> Tensor:
    """The time at which the next one of `masks` tokens is revealed, going down from t."""
    return torch.where(masks > 0, t * uniform ** (1 / masks.clamp(min=1).double()), t)


def one_of(masked: Tensor, uniform: Tensor) -> Tensor:
    """One of the masked positions of each row, all as likely; none where none is masked. Bool `batch pos`."""
    rank = masked.cumsum(-1)
    chosen = 1 + (uniform * masked.sum(-1)).long()
    return masked & (rank == chosen[:, None])


def generators(seed: int | Sequence[int], batch: int) -> list[Generator]:
    """A generator for each row, on CPU, so that seeds mean the same on every device; seed s is s + i for row i."""
    seeds = [seed + row for row in range(batch)] if isinstance(seed, int) else seed
    return [Generator().manual_seed(one) for one in seeds]


def uniforms(rows: Sequence[Generator], drawing: Tensor, *shape: int) -> Tensor:
    """Numbers in [0, 1), `batch *shape`; rows that do not draw have zeros, and their generators stay as they are."""
    drawn = torch.zeros(len(rows), *shape, dtype=torch.float64)
    for row, (generator, draws) in enumerate(zip(rows, drawing.tolist(), strict=True)):
        if draws:
            drawn[row] = torch.rand(shape, generator=generator, dtype=torch.float64)
    return drawn.to(drawing.device)
