"""Dream's sampler, a method of its model, forward by forward."""

from __future__ import annotations

import torch

from ..denoising import Kind
from ..native import Forward, Label, sampler


def label(forward: Forward) -> Label:
    """One forward for each step, on the whole canvas; noise levels fall evenly from 1 to eps.

    The number of steps is settled beforehand: those that find no mask any more run all the same.
    """
    canvas, mask = forward.inputs["input_ids"], forward.config.mask_token_id
    steps = forward.options.get("steps", canvas.shape[1] - forward.prompt.shape[1])
    levels = torch.linspace(1, forward.options.get("eps", 1e-3), steps + 1)
    kind = Kind.DENOISE if bool((canvas == mask).any()) else Kind.COMMIT
    return Label(kind, 0, levels[forward.number].expand(len(canvas)), canvas, slice(0, canvas.shape[1]), mask)


generate = sampler(label, shift=1)
"""A `Sampler.sample`: ids `batch length`, by `bridge.diffusion_generate`."""
