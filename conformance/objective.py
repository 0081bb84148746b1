"""The objective that gradients are taken of: masked cross-entropy, defined for every model that predicts tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .pair import Pair


def objective(pair: Pair, logits: Tensor) -> Tensor:
    """Mean cross-entropy of seeded targets at the masked positions that have logits, or at all where none is masked.

    It is the masked-diffusion objective (arXiv 2406.07524, eq. 8) without its weight by noise level, which only
    scales rows; defined for every model that predicts tokens.
    """
    sizes = pair.boot.sizes
    ids, mask = pair.inputs["input_ids"][:, pair.returned], pair.boot.spec.mask_token
    targets = torch.randint(sizes["d_vocab"], ids.shape, generator=torch.Generator().manual_seed(3))
    masked = torch.zeros_like(ids, dtype=torch.bool) if mask is None else ids == mask.of(sizes)
    if not masked.any():
        masked = torch.ones_like(masked)
    return nn.functional.cross_entropy(logits[masked], targets[masked])
