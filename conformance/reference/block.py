"""A transformer block whose two branches are shifted, scaled and gated by a conditioning vector."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.generalized_components import LinearBridge, MLPBridge, NormalizationBridge
from transformer_lens.model_bridge.generalized_components.block import BlockBridge

from .attention import BlockDiffusionAttentionBridge, apart, heard, observed, parts, watched

CHUNKS = ("shift_attn", "scale_attn", "gate_attn", "shift_mlp", "scale_mlp", "gate_mlp")
"""The modulation of a block in the order of its projection (Peebles & Xie, arXiv 2212.09748, adaLN-Zero)."""


def modulated(x: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    """`x * (1 + scale) + shift`, the same at every position; the stream itself in a model without modulation."""
    if shift is None or scale is None:
        return x
    return x * (1 + scale[:, None]) + shift[:, None]


def without_positions(component: Any) -> Any:
    """Mark hook points whose tensors have no position axis, so that no slice of positions cuts their channels.

    All of a component's, and of its parts', which are not yet among its modules before it stands in a bridge.
    """
    for module in component.modules():
        if isinstance(module, HookPoint):
            module.positionless = True  # type: ignore[assignment]
    for part in getattr(component, "submodules", {}).values():
        without_positions(part)
    return component


class LayerNormBridge(NormalizationBridge):
    """Layer norm without bias, computed in fp32 or better, with `hook_scale` and `hook_normalized`.

    The model's kernel gives the result, bit for bit, whether they are observed or not; where they are, its gradient
    goes through them, and once one of them is edited, the result is computed from them.
    """

    config: Any

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """Normalised stream, `batch pos d_model`, in the dtype of what came in."""
        x = self.hook_in(apart(hidden_states, self.hook_in))
        wide = x if x.dtype is torch.float64 else x.float()
        norm: Any = self.original_component
        weight: Tensor = norm.weight
        out = F.layer_norm(wide, wide.shape[-1:], eps=self.config.eps) * weight
        if heard(self.hook_scale, self.hook_normalized):
            centred = wide - wide.mean(dim=-1, keepdim=True)
            variance = centred.square().mean(dim=-1, keepdim=True)
            root = apart((variance + self.config.eps).sqrt(), self.hook_scale, saved=True)
            scale, scaled = watched(self.hook_scale, root)
            normalized, changed = watched(self.hook_normalized, centred / scale)
            out = normalized * weight if scaled or changed else observed(out, lambda: normalized * weight)
        normed: Tensor = self.hook_out(out.to(x.dtype))
        return normed


class AdaLNBlockBridge(BlockBridge):
    """One block of a diffusion transformer, with every tensor that its branches put into the residual stream.

    `hook_attn_out` and `hook_mlp_out` are what the stream receives, after the gates; `attn.hook_out` and
    `mlp.hook_out` come before them. `hook_resid_mid` lies on the stream itself. The six parts of the modulation are
    hooks of their own, `batch d_model`; a model without modulation does not have them.
    """

    # Another name for a tensor is an alias; resid_mid and what is added are points of their own.
    hook_aliases = {"hook_resid_pre": "hook_in", "hook_resid_post": "hook_out"}  # noqa: RUF012

    def __init__(self, name: str, config: Any, adaln: bool):
        submodules = {
            "ln1": LayerNormBridge(name="norm1", config=config),
            "attn": BlockDiffusionAttentionBridge(config=config),
            "ln2": LayerNormBridge(name="norm2", config=config),
            "mlp": MLPBridge(
                name="mlp", config=config, submodules={"in": LinearBridge(name="0"), "out": LinearBridge(name="2")}
            ),
        }
        if adaln:
            submodules["adaln_modulation"] = without_positions(LinearBridge(name="adaLN_modulation"))
        super().__init__(name, config, submodules=submodules)
        for hook in ("attn_out", "resid_mid", "mlp_out"):
            setattr(self, f"hook_{hook}", HookPoint())
        for chunk in CHUNKS if adaln else ():
            setattr(self, f"hook_{chunk}", without_positions(HookPoint()))

    def forward(
        self,
        x: Tensor,
        conditioning: Tensor | None,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor,
        causal: bool,
        store_kv: bool = False,
    ) -> Tensor:
        """The residual stream after the block, `batch pos d_model`; arguments as in attention, and `batch d_cond`."""
        (x,), _ = self._maybe_inject_start_residual((x,), {})
        self._check_stop_at_layer(x)
        x = self.hook_in(apart(x, self.hook_in))
        chunks = self._modulation(conditioning)
        h = modulated(self.ln1(x), chunks.get("shift_attn"), chunks.get("scale_attn"))
        attended = self.attn(h, rotary, mask, causal, store_kv)
        x = self.hook_resid_mid(x + self.hook_attn_out(self._gated(attended, chunks.get("gate_attn"))))
        entering = self.hook_mlp_in(apart(x, self.hook_mlp_in)) if self._read_use_hook_mlp_in() else x
        h = modulated(self.ln2(entering), chunks.get("shift_mlp"), chunks.get("scale_mlp"))
        after: Tensor = self.hook_out(x + self.hook_mlp_out(self._gated(self.mlp(h), chunks.get("gate_mlp"))))
        return after

    def _modulation(self, conditioning: Tensor | None) -> dict[str, Tensor]:
        """The six parts by name, each `batch d_model`."""
        if conditioning is None:
            return {}
        projection = self.adaln_modulation
        six = parts(projection(apart(conditioning, projection.hook_in)), len(CHUNKS))
        return {name: getattr(self, f"hook_{name}")(part) for name, part in zip(CHUNKS, six, strict=True)}

    def _gated(self, branch: Tensor, gate: Tensor | None) -> Tensor:
        """What a branch adds to the stream; the model drops out inside the gate."""
        block: Any = self.original_component
        branch = F.dropout(branch, p=block.dropout1.p, training=self.training)
        return branch if gate is None else gate[:, None] * branch
