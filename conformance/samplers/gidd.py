"""GIDD's own sampler, told forward by forward: which of them are for a prefix, and which for the noise behind it.

A block is denoised by forwards over all that is noise, which use the keys and values of one forward over the clean
tokens before it. The model is given no noise level, and where a step changed nothing the next one runs no forward, so
that no forward says at which level it is.
"""

from __future__ import annotations

from typing import Any

import torch

from ..denoising import Kind, Step
from ..native import Forward, Label, sampler

MASK = 3
"""A default of the sampler, which no config field holds."""


def label(forward: Forward) -> Label:
    """What a forward is for, by its positions and by whether its keys and values are kept."""
    ids, prompt = forward.inputs["input_ids"], forward.prompt.shape[1]
    if forward.inputs.get("use_cache"):
        start = ids.shape[1]
        canvas = torch.cat((ids, _noise(forward, ids)[:, start:]), dim=1)
        kind, window = Kind.PREFIX, slice(0, start)
    else:
        start = int(forward.inputs["position_ids"][0, 0])
        canvas = torch.cat((_noise(forward, ids)[:, :start], ids), dim=1)
        kind, window = Kind.DENOISE, slice(start, canvas.shape[1])
    block = (start - prompt) // int(forward.options["block_length"])
    return Label(kind=kind, block=block, t=None, canvas=canvas, window=window, mask=MASK)


def _noise(forward: Forward, ids: torch.Tensor) -> torch.Tensor:
    """The canvas as the forward before left it; before the first, what no forward has shown yet is told as masks."""
    if forward.last is not None:
        return forward.last.canvas
    return ids.new_full((len(ids), forward.config.max_position_embeddings), MASK)


def whole(step: Step) -> dict[str, Any]:
    """The forward of a step in which nothing is kept: the whole canvas, of which the prefix does not see the noise."""
    if step.kind is Kind.PREFIX:
        return {}
    noisy = torch.arange(step.canvas.shape[1]) >= step.window.start
    allowed = noisy[:, None] | ~noisy[None, :]
    return {"input_ids": step.canvas, "attention_mask": allowed.expand(len(step.canvas), -1, -1)}


generate = sampler(label)
