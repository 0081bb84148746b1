"""BD3LM's objective: a bound on the cost of a text in nats, token by token; in blocks of one, that cost itself.

Source: Arriola et al., "Block Diffusion" (arXiv 2503.09573), eq. 8 with the loglinear schedule, in which a token is
masked with probability t and costs 1/t of what it would cost alone; noise levels of many blocks are drawn together as
in Sahoo et al. (arXiv 2406.07524). Nothing here stops gradients, and everything after the logits is in float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from .draws import sigma_of, subs
from .layouts import TrainingStream, mask_id_of, training_view
from .plan import checked_ids

EPS = (1e-3, 1.0)
"""Between which noise levels are drawn, as in training; at 0 a token's weight would have no end."""


def nelbo(
    bridge: Any,
    x_0: Tensor,
    *,
    t: float | Tensor | None = None,
    masked: Tensor | None = None,
    draws: int = 1,
    generator: Generator | None = None,
    eps: tuple[float, float] = EPS,
    ignore_bos: bool = False,
) -> Tensor:
    """An estimate of the bound on -log p of every token, in nats: `batch n`, float64.

    A token that a draw does not hide costs nothing in it, so single figures mean little; `.mean(-1)` estimates the
    bound per token of each text, and its exponential a perplexity. With `t` and `masked` nothing is drawn, and the
    same call gives the same figures; otherwise `generator`, on CPU, makes it repeat.

    The bridge runs once, on `draws * batch` rows, draw by draw. A model that is conditioned on noise takes one level
    for a row: that of its first block.

    Args:
        bridge: a booted BD3LM; its hooks fire in the training view, `[x_t | x_0]`.
        x_0: clean ids, `batch n`.
        t: noise level in (0, 1] of every block, or whatever broadcasts to `batch blocks`; drawn if not given.
        masked: what is hidden, bool `batch n`, with `t` alone; drawn if not given, every token with probability t.
        draws: over how many draws the mean is taken.
        generator: what is drawn from; torch's own if not given.
        eps: between which levels `t` is drawn.
        ignore_bos: let the first token stand in x_t, and cost nothing; then `.sum(-1) / (n - 1)` is the mean.

    Raises:
        ValueError: ids, masks, levels or lengths that do not fit.
    """
    stream, mask_id = TrainingStream.of(bridge), mask_id_of(bridge)
    clean = checked_ids(x_0, mask_id + 1, "x_0")
    batch, length = clean.shape
    if length != stream.n:
        raise ValueError(f"x_0 has {length} tokens, wanted the model's context, {stream.n}")
    if draws < 1:
        raise ValueError(f"draws is {draws}, wanted at least 1")
    if masked is not None and (t is None or draws > 1):
        raise ValueError("masked is one draw, in which a token weighs 1/t, wanted t with it, and draws=1")
    clean = clean.repeat(draws, 1)
    if t is None:
        levels = noise_levels(len(clean), stream.blocks, generator, eps)
    else:
        levels = _given(t, batch, stream.blocks).repeat(draws, 1)
    levels = levels.to(clean.device)
    chance = levels.repeat_interleave(stream.block_size, dim=1)
    if masked is None:
        masked = torch.rand(clean.shape, generator=generator, dtype=torch.float64).to(clean.device) < chance
    view = training_view(clean, masked, mask_id)
    if ignore_bos:
        view[:, 0] = clean[:, 0]
    logits = bridge(view, timesteps=sigma_of(levels[:, 0]).float())
    hidden = view[:, stream.noisy] == mask_id
    cost = torch.zeros_like(chance).masked_scatter(hidden, _surprise(logits, clean, hidden, mask_id) / chance[hidden])
    mean: Tensor = cost.unflatten(0, (draws, batch)).mean(0)
    return mean


def nll(bridge: Any, x_0: Tensor, *, ignore_bos: bool = False) -> Tensor:
    """-log p of every token given those before it, in nats: `batch n`, float64.

    In blocks of one, with all of x_t hidden, the bound is the likelihood, and nothing is drawn.

    Raises:
        ValueError: blocks of more than one token, and what `nelbo` refuses.
    """
    size = TrainingStream.of(bridge).block_size
    if size != 1:
        raise ValueError(f"the model's block size is {size}, wanted 1: in larger blocks only the bound is known, nelbo")
    return nelbo(bridge, x_0, t=1.0, masked=torch.ones_like(x_0, dtype=torch.bool), ignore_bos=ignore_bos)


def noise_levels(rows: int, blocks: int, generator: Generator | None = None, eps: tuple[float, float] = EPS) -> Tensor:
    """Noise levels `rows blocks` in float64, evenly spread between `eps`, each of them uniform by itself.

    One number is drawn for all: it shifts a grid of as many points as there are blocks, round and round. Levels of
    one row are spread as evenly as those of all.
    """
    low, high = eps
    if not 0 <= low <= high <= 1 or high == 0:
        raise ValueError(f"eps is {eps}, wanted two levels in ascending order, from 0 to 1")
    grid = torch.arange(rows * blocks, dtype=torch.float64).reshape(blocks, rows).mT / (rows * blocks)
    shift = torch.rand((), generator=generator, dtype=torch.float64)
    # In (0, 1]: a level of 0 hides nothing, and has no weight.
    return low + (high - low) * (1 - (grid + shift) % 1)


def _given(t: float | Tensor, batch: int, blocks: int) -> Tensor:
    """Levels that a caller chose, `batch blocks`."""
    given = torch.as_tensor(t, dtype=torch.float64)
    if not bool(((given > 0) & (given <= 1)).all()):
        raise ValueError("t has levels outside (0, 1], wanted the share of tokens that is hidden")
    try:
        return given.expand(batch, blocks)
    except RuntimeError:
        raise ValueError(f"t is of shape {tuple(given.shape)}, wanted `batch blocks`, ({batch}, {blocks})") from None


def _surprise(logits: Tensor, clean: Tensor, hidden: Tensor, mask_id: int) -> Tensor:
    """What every hidden token costs, in row-major order; others are not looked at, and take no memory."""
    tokens = clean[hidden]
    log_probs = subs(logits[hidden], torch.full_like(tokens, mask_id), mask_id)
    return -log_probs.gather(-1, tokens[:, None])[:, 0]
