"""LLaDA2's sampler, a method of its model, forward by forward."""

from __future__ import annotations

from ..denoising import Kind
from ..native import Forward, Label, sampler


def label(forward: Forward) -> Label:
    """Every forward denoises the block at the end of its window; the noise level is the share of it that is masked."""
    canvas, size, mask = forward.inputs["input_ids"], forward.options["block_length"], forward.options["mask_id"]
    end, level = canvas.shape[1], (canvas[:, -size:] == mask).float().mean(dim=1)
    return Label(Kind.DENOISE, end // size - 1, level, canvas, slice(0, end), mask)


generate = sampler(label)
"""A `Sampler.sample`: ids `batch length`, by `bridge.diffusion_generate`."""
