"""The bridge of a block-diffusion model: a TransformerBridge that refuses what it cannot do, and can denoise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge

from .caching import CachingBridge
from .lens import DiffusionCache

Method = TypeVar("Method", bound=Callable[..., Any])

MASKS = ("attention_mask", "one_zero_attention_mask")


def _as_called(upstream: Callable[..., Any]) -> Callable[[Method], Method]:
    """Let a method that hands all its arguments on show the signature of the one that takes them."""

    def show(method: Method) -> Method:
        method.__wrapped__ = upstream  # type: ignore[attr-defined]
        return method

    return show


class DiffusionBridge(CachingBridge):
    """A bridge for models that fill in masked tokens instead of going on from the last one.

    An adapter may declare, besides what TransformerLens asks for:
        bridge_aliases: names on the bridge itself, each with the hook that it stands for.
        unsound_processing: flags of weight processing that would change the model, each with the reason.
        supports_attention_mask: False where the forward takes no mask of the user's.
        gates: hooks of what multiplies "attn" and "mlp" on their way into the stream, `batch d_model`, by `{layer}`.
        modulations: hooks of shift and scale, `batch d_model`, between a norm and "attn" or "mlp", by `{layer}`.
        final_modulation: hooks of shift and scale, `batch d_model`, between `ln_final` and `unembed`.
        sampler: a staticmethod `sampler(bridge, prompt, **options)`, ids `batch length` to ids that start with them.
        set_block_size: a method `set_block_size(bridge, size)` that raises ValueError for a size that does not fit.
    """

    cache_class = DiffusionCache

    def __init__(self, model: nn.Module, adapter: Any, tokenizer: Any, *, driver: Any = None) -> None:
        """Build the bridge.

        Mends: `hook_embed`, `hook_pos_embed` and `hook_unembed` were declared for every model, and dropped in silence
        where it has no such hook; an adapter had no way to declare names of its own there.
        """
        super().__init__(model, adapter, tokenizer, driver=driver)
        hooks, own = self.hook_dict, dict(getattr(adapter, "bridge_aliases", {}))
        for alias, target in own.items():
            if target not in hooks:
                raise ValueError(f"{type(adapter).__name__}.bridge_aliases: {alias!r} stands for {target!r}, no hook")
        inherited = {
            alias: [target] if isinstance(target, str) else list(target)
            for alias, target in type(self).hook_aliases.items()
        }
        found = {alias: next((t for t in targets if t in hooks), "") for alias, targets in inherited.items()}
        self.hook_aliases = {**{alias: target for alias, target in found.items() if target}, **own}
        self._register_aliases()

    def forward(
        self,
        input: Any,
        return_type: str | None = "logits",
        loss_per_token: bool = False,
        prepend_bos: bool | None = None,
        padding_side: str | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        start_at_layer: int | None = None,
        stop_at_layer: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Run the model; arguments as upstream's.

        Mends: ids were handed on whatever their dtype, shape and range; text that is too long was cut; a mask was
        handed on, or made for padded texts, although the model has no use for it; a layer that does not exist was
        taken for none; predictions without a mask token were those of no token.
        """
        self._layer("stop_at_layer", stop_at_layer)
        masks = dict(zip(MASKS, (attention_mask, kwargs.get(MASKS[1])), strict=True))
        for name, mask in masks.items():
            if mask is not None and not self._takes_masks:
                raise NotImplementedError(f"{name}: {self._architecture} makes its own mask and takes no other")
        if return_type == "predictions" and getattr(self.tokenizer, "mask_token_id", None) is None:
            raise NotImplementedError("return_type='predictions': the tokenizer has no mask token to predict at")
        return super().forward(
            input if start_at_layer is not None else self._tokens(input, prepend_bos, padding_side),
            return_type,
            loss_per_token,
            prepend_bos,
            padding_side,
            attention_mask,
            labels,
            start_at_layer,
            stop_at_layer,
            *args,
            **kwargs,
        )

    def run_with_cache(self, input: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Run the model and cache activations; arguments as upstream's.

        Mends: text that is too long was cut, and `padding_side` had no say in it.
        """
        if isinstance(input, (str, list)):
            input = self._tokens(input, kwargs.get("prepend_bos"), kwargs.get("padding_side"))
        return super().run_with_cache(input, *args, **kwargs)

    def loss_fn(self, *args: Any, **kwargs: Any) -> Tensor:
        """Shifted causal loss.

        Mends: it was refused as a `return_type` only where a model does not predict the next token.
        """
        if not self.adapter.supports_causal_loss:
            raise NotImplementedError(f"loss_fn: {self._architecture} does not predict the next token")
        return super().loss_fn(*args, **kwargs)

    @_as_called(TransformerBridge.enable_compatibility_mode)
    def enable_compatibility_mode(self, *args: Any, **kwargs: Any) -> None:
        """Process weights for analysis and switch on older names; arguments as upstream's.

        Mends: flags were applied to models whose function they change, such as folding a norm whose output is shifted
        by the noise level; those that the adapter calls unsound are refused before anything has changed. And hook
        points were renamed after their aliases, so that `hook.name` was `hook_embed` for `embed.hook_out`.
        """
        mode = super().enable_compatibility_mode
        asked = _given(mode, args, kwargs)
        if not asked["no_processing"]:
            self._refuse_unsound(asked, "; or set no_processing=True")
        names = {point: point.name for point in self.hook_points()}
        try:
            mode(*args, **kwargs)
        finally:
            for point in self.hook_points():
                point.name = names.get(point, point.name)

    @_as_called(TransformerBridge.process_weights)
    def process_weights(self, *args: Any, **kwargs: Any) -> None:
        """Process weights for analysis; arguments as upstream's. Mends what `enable_compatibility_mode` does."""
        process = super().process_weights
        self._refuse_unsound(_given(process, args, kwargs))
        process(*args, **kwargs)

    @property
    def block_size(self) -> int:
        """How many tokens are denoised together."""
        size = getattr(self.cfg, "block_size", None)
        if size is None:
            raise NotImplementedError(f"block_size: {self._architecture} has no blocks of tokens")
        return int(size)

    @block_size.setter
    def block_size(self, size: int) -> None:
        turn = getattr(self.adapter, "set_block_size", None)
        if turn is None:
            raise NotImplementedError(f"block_size: the adapter of {self._architecture} cannot set it")
        turn(self, size)

    @contextmanager
    def with_block_size(self, size: int) -> Iterator[DiffusionBridge]:
        """Another block size for a while."""
        before, self.block_size = self.block_size, size
        try:
            yield self
        finally:
            self.block_size = before

    @torch.no_grad()
    def diffusion_generate(
        self, input: Any, max_new_tokens: int = 32, prepend_bos: bool | None = None, **kwargs: Any
    ) -> Any:
        """Sample a continuation; arguments and result as upstream's.

        Mends: only a sampler that is a method of the wrapped model could be used.
        """
        if getattr(self.adapter, "sampler", None) is None:
            return super().diffusion_generate(input, max_new_tokens, prepend_bos, **kwargs)
        prompt = self._prompt(input, prepend_bos)
        budget = self.adapter.native_sampler_kwargs(max_new_tokens, prompt.shape[-1])
        return self._sampled(input, prompt, **{**budget, **kwargs})

    def denoise(self, prompt: Any = None, *, prepend_bos: bool | None = None, **options: Any) -> Any:
        """What the adapter's sampler makes of a prompt, with it: ids `batch length`, or text for one text.

        Without one the sampler begins by itself.
        """
        return self._sampled(prompt, None if prompt is None else self._prompt(prompt, prepend_bos), **options)

    def _prompt(self, input: Any, prepend_bos: bool | None) -> Tensor:
        # Ids are the sampler's to judge: it may begin with none at all.
        ids = input.to(self.cfg.device) if isinstance(input, Tensor) else self._tokens(input, prepend_bos, alike=True)
        return ids[None] if ids.ndim == 1 else ids

    def _sampled(self, input: Any, prompt: Tensor | None, **options: Any) -> Any:
        sampler = getattr(self.adapter, "sampler", None)
        if sampler is None:
            raise NotImplementedError(f"denoise: the adapter of {self._architecture} brings no sampler")
        ids = sampler(self, prompt, **options)
        return self.tokenizer.decode(ids[0], skip_special_tokens=True) if isinstance(input, str) else ids

    def _tokens(
        self, input: Any, prepend_bos: bool | None = None, padding_side: str | None = None, alike: bool = False
    ) -> Any:
        """Ids `batch pos` of ids, a text or texts; a clear error for anything else.

        Texts that need padding are left as they are where the model takes the mask for it, unless they have to be
        `alike` in length.
        """
        texts = [input] if isinstance(input, str) else input
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
            rows = [self.to_tokens(text, prepend_bos, padding_side, truncate=False) for text in texts]
            lengths = sorted({row.shape[-1] for row in rows})
            if len(lengths) > 1:
                if self._takes_masks and not alike:
                    return input
                told = f"texts of {lengths[0]} to {lengths[-1]} tokens need padding, and an attention_mask"
                raise NotImplementedError(f"{told}, which {self._architecture} does not take; run them one by one")
            input = torch.cat(rows)
        self._judge(input)
        return input

    def _judge(self, ids: Any) -> None:
        """Raise one clear line for what cannot be token ids."""
        if not isinstance(ids, Tensor):
            raise TypeError(f"input_ids: got {type(ids).__name__}, want ids `batch pos`, a text or a list of texts")
        if ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"input_ids: got {ids.dtype}, want whole numbers; a residual stream needs start_at_layer")
        if ids.ndim not in (1, 2) or not ids.numel():
            raise ValueError(f"input_ids: got shape {list(ids.shape)}, want `batch pos` with a token at least")
        if not ids.is_meta:
            # Both ends at once, as every look at a value waits for the device.
            low, high = torch.stack(ids.aminmax()).tolist()
            if low < 0 or high >= self.cfg.d_vocab:
                raise ValueError(f"input_ids: got ids from {low} to {high}, want 0 to {self.cfg.d_vocab - 1}")

    def _setup_start_at_layer(self, input: Any, start_at_layer: int) -> Tensor:
        """Arm the layer that goes on from a residual stream.

        Mends: the model was run on it as `inputs_embeds`, which one with a fixed signature does not know. What it is
        run on is discarded at that layer, so that any ids of the same length will do.
        """
        residual = super()._setup_start_at_layer(input, start_at_layer)
        if "inputs_embeds" in inspect.signature(self.original_model.forward).parameters:
            return residual
        return torch.zeros(residual.shape[:2], dtype=torch.long, device=residual.device)

    def _refuse_unsound(self, flags: dict[str, Any], way_out: str = "") -> None:
        unsound = getattr(self.adapter, "unsound_processing", {})
        refused = [flag for flag, asked in flags.items() if asked and flag in unsound]
        if refused:
            reasons = "; ".join(f"{flag} would change {self._architecture}: {unsound[flag]}" for flag in refused)
            raise ValueError(f"{reasons}. Set {', '.join(f'{flag}=False' for flag in refused)}{way_out}")

    @property
    def _takes_masks(self) -> bool:
        return bool(getattr(self.adapter, "supports_attention_mask", True))

    @property
    def _architecture(self) -> str:
        return self.cfg.architecture or type(self.adapter).__name__


def _given(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, defaults included."""
    bound = inspect.signature(method).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments
