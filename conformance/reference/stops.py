"""Where texts end before they are full: at an end-of-text token, or where they have become monotonous."""

from __future__ import annotations

import torch
from torch import Tensor

RUNNING = torch.iinfo(torch.long).max
"""Where a text ends that has not ended."""


def entropy(tokens: Tensor) -> Tensor:
    """Entropy in nats of the tokens of each row, `batch`, taken as draws from one distribution."""
    same = (tokens[:, :, None] == tokens[:, None, :]).sum(-1)
    return (tokens.shape[1] / same.double()).log().mean(-1)


def first_end(tokens: Tensor, eos: int, start: int) -> Tensor:
    """The column after the first `eos` of each row that stands at `start` or later, `batch`; `RUNNING` without one."""
    here = tokens[:, start:] == eos
    return torch.where(here.any(-1), start + 1 + here.long().argmax(-1), RUNNING)


def monotonous(tokens: Tensor, window: int, least: float, start: int) -> Tensor:
    """The column before the last `window` tokens of each row that have less than `least` nats, but not before `start`.

    `batch`; `RUNNING` for other rows, and for all that are no longer than `window`.
    """
    if tokens.shape[1] <= window:
        return tokens.new_full((len(tokens),), RUNNING)
    cut = max(tokens.shape[1] - window, start)
    return torch.where(entropy(tokens[:, -window:]) < least, cut, RUNNING)


def lengths(tokens: Tensor, eos: int, prompt: int = 0) -> Tensor:
    """How many tokens of each row are text, `batch`: up to its first `eos` after the prompt and after position 0."""
    return first_end(tokens, eos, max(prompt, 1)).clamp(max=tokens.shape[1])
