"""Likelihoods under masked diffusion in closed form: log-probabilities from logits, the bound, and what it bounds.

Source: Arriola et al., "Block Diffusion" (arXiv 2503.09573), with the parameterisation of Sahoo et al., "Simple and
Effective Masked Diffusion Language Models" (arXiv 2406.07524), and the loglinear schedule of both: a token is masked
with probability t. Everything is in nats and in fp64. A block of B tokens has 2^B - 1 patterns of masked ones:
pattern p hides token i where bit i of p + 1 is set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Parameterisation = Callable[[Tensor, Tensor, int], Tensor]
"""`parameterisation(logits, tokens, mask)`: log-probabilities of what is clean at every position of a canvas."""


def subs(logits: Tensor, tokens: Tensor, mask: int) -> Tensor:
    """Log-probabilities `... pos d_vocab`: no mass on the mask id, and what is revealed stays (2406.07524, "SUBS").

    The released code adds -10⁶ to a logit where this has -inf, which in fp64 is the same once exponentiated.
    """
    guessed = logits.double().index_fill(-1, torch.tensor(mask), -torch.inf).log_softmax(-1)
    certain = torch.full_like(guessed, -torch.inf).scatter(-1, tokens[..., None], 0.0)
    return torch.where((tokens == mask)[..., None], guessed, certain)


def softmax(logits: Tensor, tokens: Tensor, mask: int) -> Tensor:
    """Log-probabilities `... pos d_vocab`: log softmax of the logits at a mask, and what is revealed stays.

    That of LLaDA, whose loss is the plain cross entropy at masked tokens (2502.09992, equation 3): the mask's own id
    has a probability, too, which training brings to nothing.
    """
    certain = torch.full_like(logits, -torch.inf, dtype=torch.float64).scatter(-1, tokens[..., None], 0.0)
    return torch.where((tokens == mask)[..., None], logits.double().log_softmax(-1), certain)


PARAMETERISATIONS: Mapping[str, Parameterisation] = {"subs": subs, "softmax": softmax}
"""What a spec's `parameterisation` may name."""


def stratified(start: float, count: int) -> Tensor:
    """Noise levels t in (0, 1], one for each block, one in every `1/count`: far less variance than independent ones.

    As the low-discrepancy sampler of 2406.07524, with one draw for all, `start` in (0, 1].
    """
    return (torch.arange(count, dtype=torch.float64) + start) / count


def nelbo(scores: Tensor, hidden: Tensor, t: Tensor) -> Tensor:
    """The bound on -log p for given draws, token by token: `1/t` of what a masked token costs (2503.09573).

    Args:
        scores: log-probabilities of the clean tokens, `... pos`.
        hidden: which tokens were masked, bool `... pos`.
        t: noise level at every token, that of its block.
    """
    return torch.where(hidden, -scores / t, 0.0)


def patterns(block: int) -> Tensor:
    """All patterns of masked tokens of one block but the empty one, bool `pattern token`."""
    return (torch.arange(1, 2**block)[:, None] >> torch.arange(block)) % 2 == 1


def weight(masked: int, block: int) -> float:
    """What one pattern with so many masked tokens weighs in the exact bound.

    The integral over t of 1/t times the probability of the pattern, `t^(m-1) (1-t)^(B-m)`: Beta(m, B-m+1).
    """
    return math.factorial(masked - 1) * math.factorial(block - masked) / math.factorial(block)


def exact_nelbo(scores: Tensor) -> Tensor:
    """The bound's expectation over t and masks, for every block.

    Args:
        scores: log-probabilities of the clean tokens of a block under each of its patterns, `... pattern token`.
    """
    block = scores.shape[-1]
    hidden = patterns(block)
    weights = torch.tensor([weight(int(row.sum()), block) for row in hidden], dtype=scores.dtype)
    return (weights[:, None] * torch.where(hidden, -scores, 0.0)).sum((-1, -2))


def exact_nll(scores: Tensor) -> Tensor:
    """-log p of every block, when its tokens are revealed one by one and all orders are as likely; `scores` as above.

    p of what a pattern hides is the mean, over the token that is revealed next, of that token's probability times
    p of the rest; so B! orders cost 2^B steps.
    """
    block = scores.shape[-1]
    log_p = [torch.zeros_like(scores[..., 0, 0])]
    for pattern in range(1, 2**block):
        tokens = [token for token in range(block) if pattern >> token & 1]
        ways = [scores[..., pattern - 1, token] + log_p[pattern - (1 << token)] for token in tokens]
        log_p.append(torch.stack(ways).logsumexp(0) - math.log(len(tokens)))
    return -log_p[-1]
