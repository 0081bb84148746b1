"""What a sampler is asked for, with everything looked up and checked before the model runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Times = Literal["first-hitting", "grid"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of the sampler.

    Attributes:
        n: the model's context, in tokens.
        block: tokens per block.
        d_vocab: the tokenizer's ids, and the mask as the last.
        prompt: tokens that are given.
        length: tokens in the end, the prompt's included.
        eos: what ends a text; None where nothing can.
        min_entropy: in nats, None for any.
        entropy_window: tokens over which it is taken.
    """

    n: int
    block: int
    d_vocab: int
    prompt: int
    length: int
    times: Times
    steps: int
    nucleus: float
    cached: bool
    until_eos: bool
    eos: int | None
    min_entropy: float | None
    entropy_window: int

    @property
    def mask(self) -> int:
        """The mask's id."""
        return self.d_vocab - 1

    @property
    def blocks(self) -> int:
        """Blocks that the text touches; the last may go beyond its length."""
        return -(-self.length // self.block)

    def check(self, config: Any) -> None:
        """Say in one line what cannot be done."""
        whole = {name: getattr(self, name) for name in ("length", "steps", "entropy_window")}
        real = {"nucleus": self.nucleus, **({} if self.min_entropy is None else {"min_entropy": self.min_entropy})}
        for name, value in whole.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}, wanted a whole number")
        for name, number in real.items():
            if not isinstance(number, (int, float)) or not math.isfinite(number):
                raise ValueError(f"{name} is {number!r}, wanted a number")
        if self.length < max(self.prompt, 1):
            wanted = f"the prompt's {self.prompt} tokens" if self.prompt else "1"
            raise ValueError(f"length is {self.length}, wanted at least {wanted}")
        if not 0 < self.nucleus <= 1:
            raise ValueError(f"nucleus is {self.nucleus}, wanted a number above 0 and up to 1")
        if self.times not in get_args(Times):
            raise ValueError(f"times is {self.times!r}, wanted one of {', '.join(map(repr, get_args(Times)))}")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, wanted at least 1")
        if self.times == "first-hitting" and self.steps < self.block:
            raise ValueError(
                f"steps is {self.steps}, wanted at least {self.block}: first-hitting times reveal one token of a block "
                "a step (times='grid' can reveal several)"
            )
        if self.cached and not config.cross_attn:
            raise ValueError("cached is True, wanted False: with cross_attn=False every token sees all others")
        if self.entropy_window < 1:
            raise ValueError(f"entropy_window is {self.entropy_window}, wanted at least 1")
        if self.eos is None and (self.until_eos or self._may_become_monotonous):
            raise ValueError("bridge.tokenizer has no eos id, wanted eos=, or until_eos=False and min_entropy=None")

    @property
    def _may_become_monotonous(self) -> bool:
        return self.min_entropy is not None and self.blocks * self.block > self.entropy_window


def checked_ids(ids: Any, d_vocab: int, what: str, *, masks: bool = False) -> Tensor:
    """Ids `batch length`, as long integers; the mask is an id only where masks are allowed."""
    if not isinstance(ids, Tensor):
        raise ValueError(f"{what} is {type(ids).__name__}, wanted a tensor of integer ids, `batch length`")
    if ids.ndim != 2 or len(ids) == 0 or ids.is_floating_point() or ids.dtype is torch.bool:
        got = f"{ids.dtype} of shape {tuple(ids.shape)}"
        raise ValueError(f"{what} is {got}, wanted integer ids, `batch length`")
    last = d_vocab - 1 if masks else d_vocab - 2
    wrong = ((ids < 0) | (ids > last)).nonzero().tolist()
    if wrong:
        row, column = wrong[0]
        note = "" if masks else f" ({d_vocab - 1} is the mask)"
        raise ValueError(f"{what} has id {int(ids[row, column])} at [{row}, {column}], wanted 0 to {last}{note}")
    return ids.long()


def first_canvas(prompt: Tensor | None, batch: int, bos: int | None, plan: Plan, device: torch.device) -> Tensor:
    """The prompt, or a first token and nothing else, up to the end of its block: `batch length`."""
    given = torch.empty(batch, 0, dtype=torch.long) if prompt is None else prompt
    if given.shape[1] == 0 and bos is not None:
        given = torch.full((batch, 1), bos)
    missing = -given.shape[1] % plan.block
    return torch.nn.functional.pad(given.to(device), (0, missing), value=plan.mask)


def special_id(bridge: Any, name: str, given: int | None, d_vocab: int) -> int | None:
    """The id of `bos` or `eos`: as given, else the tokenizer's, else None."""
    tokenizer = getattr(bridge, "tokenizer", None)
    found: int | None = getattr(tokenizer, f"{name}_token_id", None) if given is None else given
    if found is not None and not (isinstance(found, int) and 0 <= found < d_vocab - 1):
        raise ValueError(f"{name} is {found}, wanted an id from 0 to {d_vocab - 2}")
    return found


def batch_of(prompt: Tensor | None, seed: int | Sequence[int]) -> int:
    """How many rows there are: the prompt's, or as many as there are seeds."""
    if isinstance(seed, int):
        return 1 if prompt is None else len(prompt)
    if not isinstance(seed, Sequence) or not all(isinstance(each, int) for each in seed):
        raise ValueError(f"seed is {seed!r}, wanted an integer, or one for each row")
    if prompt is not None and len(seed) != len(prompt):
        raise ValueError(f"seed has {len(seed)} seeds, wanted one for each of {len(prompt)} rows, or one integer")
    if len(seed) == 0:
        raise ValueError("seed has no seeds, wanted one for each row, or one integer")
    return len(seed)
