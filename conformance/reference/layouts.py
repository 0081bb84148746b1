"""The 2n stream in which BD3LM is trained, cut together and apart, and the way from texts to canvases and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .plan import checked_ids

MASK = "[MASK]"
"""How a mask token is spelled that a tokenizer did not bring."""


def training_view(x_0: Tensor, masked: Tensor, mask_id: int) -> Tensor:
    """The stream `[x_t | x_0]` of the training view: `batch 2n`.

    Args:
        x_0: clean ids, `batch n`.
        masked: which of them x_t hides, bool `batch n`.
        mask_id: what it shows instead.

    Raises:
        ValueError: ids that are none, or already the mask; hidden positions of another shape or dtype.
    """
    clean = checked_ids(x_0, mask_id + 1, "x_0")
    if not isinstance(masked, Tensor) or masked.dtype is not torch.bool or masked.shape != clean.shape:
        got = f"{masked.dtype} of shape {tuple(masked.shape)}" if isinstance(masked, Tensor) else type(masked).__name__
        raise ValueError(f"masked is {got}, wanted torch.bool of x_0's shape {tuple(clean.shape)}")
    return torch.cat((clean.masked_fill(masked, mask_id), clean), dim=1)


class Parts(NamedTuple):
    """Where one block lies in the 2n stream, and so in every hook's `batch pos ...`: as x_t, and as x_0."""

    noisy: slice
    clean: slice


@dataclass(frozen=True, slots=True)
class TrainingStream:
    """Where things lie in the 2n stream of a model with context `n` and blocks of `block` tokens.

    Logits are those of the noisy half alone, `batch n d_vocab`: `noisy` and `block(j).noisy` cut them, too.
    """

    n: int
    block_size: int

    def __post_init__(self) -> None:
        if self.block_size < 1 or self.n < self.block_size or self.n % self.block_size:
            raise ValueError(f"block_size is {self.block_size}, wanted one that divides n = {self.n}")

    @classmethod
    def of(cls, bridge: Any) -> TrainingStream:
        """That of a booted BD3LM, with the block size that it has now."""
        config = bridge.original_model.config
        if not config.cross_attn:
            raise ValueError("this model has one stream only (cross_attn=False), wanted one with a training view")
        return cls(config.model_length, config.block_size)

    @property
    def blocks(self) -> int:
        """How many blocks either half has."""
        return self.n // self.block_size

    @property
    def noisy(self) -> slice:
        """Where x_t is."""
        return slice(0, self.n)

    @property
    def clean(self) -> slice:
        """Where x_0 is."""
        return slice(self.n, 2 * self.n)

    def block(self, index: int) -> Parts:
        """Where one block is, from 0, in either half."""
        if not 0 <= index < self.blocks:
            raise IndexError(f"block is {index}, wanted 0 to {self.blocks - 1}")
        start, stop = index * self.block_size, (index + 1) * self.block_size
        return Parts(slice(start, stop), slice(self.n + start, self.n + stop))


def mask_id_of(bridge: Any) -> int:
    """The mask's id, which BD3LM keeps in no config field: its last."""
    return int(bridge.original_model.config.vocab_size) - 1


def add_mask_token(tokenizer: Any, mask_id: int, spelling: str = MASK) -> None:
    """Give a tokenizer, which is changed, the mask token that its model has at `mask_id`.

    BD3LM's is GPT-2's, which knows no mask: decoded, masks vanish or fail, and no text encodes to one.

    Raises:
        ValueError: the tokenizer has another mask token, or another token there; or its next id is another.
    """
    from transformers import AddedToken

    if tokenizer.mask_token_id == mask_id:
        return
    ids = {index: token for token, index in tokenizer.get_vocab().items()}
    found = tokenizer.get_vocab().get(spelling, mask_id)
    if tokenizer.mask_token_id is not None:
        raise ValueError(f"the tokenizer's mask token has id {tokenizer.mask_token_id}, wanted {mask_id}")
    if ids.get(mask_id, spelling) != spelling:
        raise ValueError(f"mask_id is {mask_id}, wanted a free one: it is {ids[mask_id]!r} in the tokenizer")
    if found != mask_id:
        raise ValueError(f"spelling is {spelling!r}, wanted a new one: it has id {found} in the tokenizer")
    if mask_id not in ids and mask_id != max(ids) + 1:
        raise ValueError(f"mask_id is {mask_id}, wanted {max(ids) + 1}, the tokenizer's next")
    tokenizer.add_special_tokens({"mask_token": AddedToken(spelling, special=True, normalized=False)})


def text_canvas(
    bridge: Any, text: str | Sequence[str], length: int | None = None, *, prepend_bos: bool | None = None
) -> Tensor:
    """Ids `batch length` of a text, or of several, that may spell masks; what is missing at the end is masked, too.

    Args:
        bridge: a booted BD3LM, whose tokenizer has a mask token (`add_mask_token`).
        text: what is known, as in "a [MASK] dog".
        length: tokens of each row; the model's context if not given.
        prepend_bos: as in `bridge.to_tokens`.

    Raises:
        ValueError: a text that is longer; a tokenizer whose mask token is not the model's.
    """
    texts, mask_id = [text] if isinstance(text, str) else list(text), mask_id_of(bridge)
    length = int(bridge.original_model.config.model_length) if length is None else length
    if not texts:
        raise ValueError("text has no texts, wanted at least one")
    if bridge.tokenizer.mask_token_id != mask_id:
        raise ValueError(
            f"the tokenizer's mask token has id {bridge.tokenizer.mask_token_id}, wanted the model's, {mask_id} "
            f"(add_mask_token(bridge.tokenizer, {mask_id}) gives it one)"
        )
    rows = [bridge.to_tokens(each, prepend_bos=prepend_bos, truncate=False)[0] for each in texts]
    for row, each in zip(rows, texts, strict=True):
        if len(row) > length:
            raise ValueError(f"text has {len(row)} tokens, wanted at most {length}: {each!r}")
    return torch.stack([torch.nn.functional.pad(row, (0, length - len(row)), value=mask_id) for row in rows])
