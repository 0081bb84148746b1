"""The bare model in the bridge's place: the reference, for samplers to call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .taps import logits_of

if TYPE_CHECKING:
    from .subject import Boot


class Bare:
    """The reference, called as a bridge is; all else that a sampler may ask for is the bridge's."""

    def __init__(self, boot: Boot) -> None:
        self._bridge, self.original_model = boot.bridge, boot.reference
        self._native = None if boot.spec.sampler is None else boot.spec.sampler.native

    def __call__(self, input_ids: Tensor, **arguments: Any) -> Tensor:
        """Logits."""
        return logits_of(self.original_model(input_ids=input_ids, **arguments))

    def diffusion_generate(self, ids: Tensor, max_new_tokens: int, **options: Any) -> Tensor:
        """What the method of this name does on a bridge: the model's own sampler, and the prompt before its text."""
        usual = self._bridge.adapter.native_sampler_kwargs(max_new_tokens, ids.shape[1])
        text = getattr(self.original_model, str(self._native))(ids, **{**usual, **options})
        text = getattr(text, "sequences", text)
        told = torch.equal(text[:, : ids.shape[1]], ids)
        return text if told else torch.cat((ids, text), dim=1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)
