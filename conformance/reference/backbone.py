"""The forward of a block diffusion model from tokens and noise levels to logits, on hookable parts."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.generalized_components import EmbeddingBridge
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

from .attention import apart, parts
from .block import modulated, without_positions


class _Nameless(GeneralizedComponent):
    """A component that gives up its path once it stands there.

    By the paths of components TransformerBridge names what is in its state dict: below one it knows only `weight`,
    `bias` and declared parts, and it asks the first that fits, so that a container would claim what is its parts'.
    """

    def set_original_component(self, original_component: torch.nn.Module) -> None:
        """Wrap a remote module, whose tensors keep their remote names."""
        super().set_original_component(original_component)
        self.name = None


class ParameterEmbeddingBridge(_Nameless, EmbeddingBridge):
    """An embedding whose table is a bare parameter named `embedding`."""

    @property
    def W_E(self) -> Tensor:
        """The table, `d_vocab d_model`."""
        module: Any = self.original_component
        table: Tensor = module.embedding
        return table


class BlockDiffusionBackboneBridge(_Nameless):
    """Embedding, conditioning, blocks, last modulation and unembedding, in one of three views.

    Training view: `[x_t | x_0]`, 2n tokens; the logits are those of the noisy half. Sampling view: at most n tokens,
    each block sees those before it. Cached view: one block, after those whose keys and values the remote blocks hold.

    Hooks: `hook_in` are the ids and `hook_out` the logits of the whole stream; `hook_timestep` is the noise level
    `batch` that conditions the model, `hook_conditioning` the vector `batch d_cond` that all blocks modulate by,
    `hook_shift_final` and `hook_scale_final`, `batch d_model`, modulate the last norm.
    """

    def __init__(self, config: Any):
        super().__init__(name="backbone", config=config)
        names = ("timestep", "conditioning", "shift_final", "scale_final") if config.adaln else ()
        for name in names:
            setattr(self, f"hook_{name}", without_positions(HookPoint()))

    def forward(
        self,
        indices: Tensor,
        sigma: Tensor | None = None,
        sample_mode: bool = False,
        store_kv: bool = False,
        output_hidden_states: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits and, if asked for, the stream at the embedding and after every block, cut to positions with logits.

        Args:
            indices: token ids, `batch stream`.
            sigma: noise levels, `batch` or one for all rows; None where the model ignores them.
            sample_mode: whether the stream is one text, not the two halves of the training view.
            store_kv: whether the block stays in an open cache.
            output_hidden_states: whether to return the stream.

        Raises:
            ValueError: a stream of another length, or noise levels that are missing or are none.
        """
        model: Any = self.original_component
        two_halves = model.cross_attn and not sample_mode
        past = self._past()
        self._check_length(indices, two_halves, past)
        sigma = self._checked_levels(sigma, indices)
        x = model.vocab_embed(self.hook_in(apart(indices, self.hook_in, model.vocab_embed.hook_in)))
        states = [x] if output_hidden_states else []
        conditioning = self._conditioning(sigma, x) if model.adaln else None
        rotary, mask = self._rotary(x, two_halves, past), self._mask(x, two_halves, past)
        for block in model.blocks:
            x = block(x, conditioning, rotary, mask, model.config.causal and not model.cross_attn, store_kv)
            if output_hidden_states:
                states.append(x)
        logits = self.hook_out(self._read_out(x, conditioning))
        kept = slice(0, model.n if two_halves else None)
        return logits[:, kept], [state[:, kept] for state in states]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move and cast; frequencies that were rounded with the weights would move the positions far out."""
        model: Any = self.original_component
        frequencies = model.rotary_emb.inv_freq
        moved = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        now = model.rotary_emb.inv_freq
        if now.dtype is not frequencies.dtype:
            model.rotary_emb.inv_freq = frequencies.to(now.device, torch.promote_types(now.dtype, torch.float32))
        return moved

    def _past(self) -> int | None:
        """Tokens in the cache of keys and values, None where none is open."""
        model: Any = self.original_component
        first = model.blocks[0].original_component
        return None if first.kv_cache is None else int(first.cache_idx)

    def _check_length(self, indices: Tensor, two_halves: bool, past: int | None) -> None:
        model: Any = self.original_component
        length = indices.shape[1]
        if past is not None:
            wanted = f"{model.block_size}, one block, while a cache is open" if length != model.block_size else ""
        elif two_halves:
            wanted = f"{2 * model.n}, noisy and clean half" if length != 2 * model.n else ""
        else:
            wanted = f"at most {model.n}" if not 0 < length <= model.n else ""
        if wanted:
            raise ValueError(f"input_ids: got a stream of length {length}, want {wanted}")
        if past is not None:
            self._check_cache(indices, two_halves, past)

    def _check_cache(self, indices: Tensor, two_halves: bool, past: int) -> None:
        model: Any = self.original_component
        rows, size = len(model.blocks[0].original_component.kv_cache), indices.shape[1]
        if two_halves:
            raise ValueError("sample_mode: got False, want True while a cache is open")
        if len(indices) != rows:
            raise ValueError(f"input_ids: got {len(indices)} rows, want {rows}, for which the cache was opened")
        if past + size > model.n:
            told = f"the cache holds {past} tokens of {model.n}, and has no room for {size} more"
            raise ValueError(f"{told}; open it anew after turning block_size")

    def _checked_levels(self, sigma: Tensor | None, indices: Tensor) -> Tensor | None:
        model: Any = self.original_component
        batch = indices.shape[0]
        if sigma is None:
            if model.adaln and model.config.time_conditioning:
                raise ValueError(
                    f"timesteps: got None, want {batch} noise levels, one per row, which condition this model"
                )
            return None
        if not isinstance(sigma, Tensor) or sigma.ndim != 1 or len(sigma) not in (1, batch):
            got = list(sigma.shape) if isinstance(sigma, Tensor) else type(sigma).__name__
            raise ValueError(f"timesteps: got {got}, want a tensor with one noise level per row, [{batch}]")
        if not sigma.isfinite().all():
            raise ValueError(f"timesteps: got {sigma.tolist()}, want finite noise levels")
        return sigma

    def _conditioning(self, sigma: Tensor | None, x: Tensor) -> Tensor:
        """Noise levels to the vector by which all blocks are modulated, `batch d_cond`."""
        model: Any = self.original_component
        weight = getattr(model.sigma_map.mlp, "in").weight
        wide = torch.float64 if weight.dtype is torch.float64 else torch.float32
        if sigma is None or not model.config.time_conditioning:
            sigma = torch.zeros(len(x), device=x.device)
        levels = self.hook_timestep(apart(sigma.to(wide).expand(len(x)), self.hook_timestep))
        half = weight.shape[1] // 2
        omega = torch.exp(-math.log(10_000) * torch.arange(half, dtype=wide, device=x.device) / half)
        angle = levels[:, None] * omega
        table = torch.cat((angle.cos(), angle.sin()), dim=-1).to(weight.dtype)
        conditioning: Tensor = self.hook_conditioning(F.silu(model.sigma_map.mlp(table)))
        return conditioning

    def _rotary(self, x: Tensor, two_halves: bool, past: int | None) -> tuple[Tensor, Tensor]:
        """Cosines and sines, `key d_head`; positions start again in the clean half."""
        model: Any = self.original_component
        length = model.n if two_halves else x.shape[1] + (past or 0)
        rotary = model.rotary_emb
        if rotary.cos_cached is not None and not _of_use(rotary.cos_cached, rotary.inv_freq):
            # The model keeps its tables by length alone.
            rotary.seq_len_cached = None
        tables = rotary(x.new_empty((1, length)))
        width = 2 * len(rotary.inv_freq)
        cos, sin = (table.reshape(length, -1)[:, :width] for table in tables)
        return (torch.cat((cos, cos)), torch.cat((sin, sin))) if two_halves else (cos, sin)

    def _mask(self, x: Tensor, two_halves: bool, past: int | None) -> Tensor:
        """What is added to the scores, `query key`: 0 where a query may attend, else -inf."""
        model: Any = self.original_component
        length = x.shape[1]
        if past is not None:
            return x.new_zeros((length, past + length))
        if model.cross_attn:
            window = slice(None) if two_halves else slice(model.n, model.n + length)
            allowed = model.mask[window, window].to(x.device)
        else:
            allowed = torch.ones((length, length), dtype=torch.bool, device=x.device)
            allowed = allowed.tril() if model.config.causal else allowed
        return x.new_zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)

    def _read_out(self, x: Tensor, conditioning: Tensor | None) -> Tensor:
        """Last norm, its modulation, and the unembedding, `batch pos d_vocab`."""
        model: Any = self.original_component
        layer = model.output_layer
        x = layer.norm_final(x)
        if conditioning is not None:
            projection = layer.adaLN_modulation
            shift, scale = parts(projection(apart(conditioning, projection.hook_in)), 2)
            x = modulated(x, self.hook_shift_final(shift), self.hook_scale_final(scale))
        logits: Tensor = layer.linear(x)
        return logits


def _of_use(table: Tensor, frequencies: Tensor) -> bool:
    """Whether a rotary table that was made before will do: tensors of inference mode are of no use outside it."""
    inference = table.is_inference() and not torch.is_inference_mode_enabled()
    return table.dtype is frequencies.dtype and table.device == frequencies.device and not inference
