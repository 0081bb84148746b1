"""What LLaDA's sampler is asked for, with everything looked up and checked before the model runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Remasking = Literal["low_confidence", "random"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of the sampler.

    Attributes:
        d_vocab: the model's ids.
        mask: the mask's.
        prompt: tokens that are given.
        length: tokens in the end, the prompt's included.
        block: tokens per block.
        steps: denoising steps per block.
        banned: ids that are never drawn.
    """

    d_vocab: int
    mask: int
    prompt: int
    length: int
    block: int
    steps: int
    temperature: float
    cfg_scale: float
    remasking: Remasking
    banned: tuple[int, ...]

    @classmethod
    def of(
        cls,
        *,
        n: int,
        d_vocab: int,
        mask: int,
        prompt: int,
        length: int | None,
        steps: int | None,
        block: int | None,
        temperature: float,
        cfg_scale: float,
        remasking: Remasking,
        banned: Sequence[int],
    ) -> Plan:
        """The plan of a run in a context of n tokens; ValueError says in one line what cannot be done."""
        length = n if length is None else _whole("length", length, prompt)
        if length > n:
            raise ValueError(f"length is {length}, wanted at most the model's context, {n}")
        block = max(length - prompt, 1) if block is None else _whole("block_length", block, 1)
        blocks = -(-(length - prompt) // block)
        steps = blocks * block if steps is None else _whole("steps", steps, max(blocks, 1))
        if blocks and steps % blocks:
            raise ValueError(f"steps is {steps}, wanted a multiple of {blocks}, the number of blocks of {block} tokens")
        for name, number in (("temperature", temperature), ("cfg_scale", cfg_scale)):
            if not isinstance(number, int | float) or not 0 <= number < math.inf:
                raise ValueError(f"{name} is {number!r}, wanted a number from 0 on")
        if remasking not in get_args(Remasking):
            known = ", ".join(map(repr, get_args(Remasking)))
            raise ValueError(f"remasking is {remasking!r}, wanted one of {known}")
        for id in banned:
            if not isinstance(id, int) or not 0 <= id < d_vocab:
                raise ValueError(f"banned has {id!r}, wanted ids from 0 to {d_vocab - 1}")
        if set(banned) | {mask} >= set(range(d_vocab)):
            raise ValueError("banned has every id, wanted some that can be drawn")
        share = steps // max(blocks, 1)
        return cls(
            d_vocab, mask, prompt, length, block, share, temperature, cfg_scale, remasking, tuple(sorted(set(banned)))
        )

    @property
    def blocks(self) -> int:
        """Blocks of the answer; the last may be shorter."""
        return -(-(self.length - self.prompt) // self.block)

    @property
    def kind(self) -> tuple[int, int]:
        """What a run that goes on has to have in common with the one before."""
        return self.block, self.mask


def _whole(name: str, number: int, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{name} is {number!r}, wanted a whole number")
    if number < least:
        raise ValueError(f"{name} is {number}, wanted at least {least}")
    return number


def mask_of(config: Any, given: int | None) -> int:
    """The mask's id: as given, else that of the config."""
    found = getattr(config, "mask_token_id", None) if given is None else given
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < config.vocab_size:
        where = "the config's mask_token_id" if given is None else "mask_id"
        raise ValueError(f"{where} is {found!r}, wanted mask_id, an id from 0 to {config.vocab_size - 1}")
    return found


def checked_ids(ids: Any, d_vocab: int, mask: int, what: str, *, given: int | None = None) -> Tensor:
    """Ids `batch length`, as long integers, without masks in the first `given` columns, by default in all."""
    if not isinstance(ids, Tensor):
        raise ValueError(f"{what} is {type(ids).__name__}, wanted a tensor of integer ids, `batch length`")
    if ids.ndim != 2 or len(ids) == 0 or ids.is_floating_point() or ids.dtype is torch.bool:
        got = f"{ids.dtype} of shape {tuple(ids.shape)}"
        raise ValueError(f"{what} is {got}, wanted integer ids, `batch length`")
    early = torch.arange(ids.shape[1], device=ids.device) < (ids.shape[1] if given is None else given)
    wrong = ((ids < 0) | (ids >= d_vocab) | ((ids == mask) & early)).nonzero().tolist()
    if wrong:
        row, column = wrong[0]
        wanted = f"0 to {d_vocab - 1}, and not {mask}, the mask" if early[column] else f"0 to {d_vocab - 1}"
        raise ValueError(f"{what} has id {int(ids[row, column])} at [{row}, {column}], wanted {wanted}")
    return ids.long()
