"""The adapter: which component stands for which part of BD3LM, and what is true of the model."""

from __future__ import annotations

from typing import Any

import torch
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import LinearBridge, MLPBridge, UnembeddingBridge
from transformer_lens.model_bridge.supported_architectures._remote_code_compat import (
    disable_tied_weights_lookup,
    force_import_remote_class,
)

from .backbone import BlockDiffusionBackboneBridge, ParameterEmbeddingBridge
from .block import AdaLNBlockBridge, LayerNormBridge, without_positions
from .bridge import DiffusionBridge
from .layouts import add_mask_token
from .sampler import denoise

MLP_RATIO = 4
"""Hard-wired in the model's blocks."""

CONDITIONING = {
    "hook_timestep": "backbone.hook_timestep",
    "hook_sinusoid": "sigma_map.hook_in",
    "hook_conditioning": "backbone.hook_conditioning",
}
"""From noise level to what modulates the blocks."""

GATES = {"attn": "blocks.{layer}.hook_gate_attn", "mlp": "blocks.{layer}.hook_gate_mlp"}
"""What multiplies the branches of a block."""
MODULATIONS = {
    "attn": ("blocks.{layer}.hook_shift_attn", "blocks.{layer}.hook_scale_attn"),
    "mlp": ("blocks.{layer}.hook_shift_mlp", "blocks.{layer}.hook_scale_mlp"),
}
"""Shift and scale between the norms of a block and its branches."""

UNSOUND = {
    "fold_ln": "queries, keys and values are one matrix, which the folding does not know",
    "center_writing_weights": "the matrix of the attention's output would be centred over its inputs",
    "refactor_factored_attn_matrices": "queries and keys are rotated between the two matrices that it factors",
}
UNSOUND_IF_CONDITIONED = {
    "fold_ln": "a conditioned shift and scale stand between each norm and the weights behind it",
    "center_writing_weights": "what attention and MLP write is gated channel by channel before it is added",
}
"""Flags of compatibility mode that would give another model, and why."""


class BD3LMReferenceAdapter(ArchitectureAdapter):
    """BD3LM, the block diffusion language model (Arriola et al., arXiv 2503.09573), with every tensor a hook.

    The model's own forward checks keywords and packs the output; what lies between tokens and logits is computed by
    components on the model's parameters. Nothing is patched on the model: its mask and rotary tables are its own, its
    tensors keep their names. Variants: without the clean half (`cross_attn=False`, MDLM), without modulation
    (`adaln=False`), causal (`causal=True`).
    """

    applicable_phases = [1, 2, 3]  # noqa: RUF012
    supports_generation = False
    supports_causal_loss = False
    supports_hf_output_attentions = False
    supports_attention_mask = False
    bridge_class = DiffusionBridge
    sampler = staticmethod(denoise)
    cfg: Any
    bridge_aliases: dict[str, str]
    gates: dict[str, str]
    modulations: dict[str, tuple[str, str]]
    final_modulation: tuple[str, ...]
    unsound_processing: dict[str, str]

    def __init__(self, cfg: Any):
        super().__init__(cfg)
        cfg.n_ctx = cfg.model_length
        cfg.d_mlp = MLP_RATIO * cfg.d_model
        cfg.act_fn = "gelu_new"
        cfg.eps = 1e-5
        cfg.normalization_type, cfg.uses_rms_norm, cfg.final_rms = "LN", False, False
        cfg.gated_mlp = cfg.attn_only = False
        cfg.positional_embedding_type = "rotary"
        cfg.rotary_base, cfg.rotary_dim = 10_000, cfg.d_model // cfg.n_heads
        # The last row of the vocabulary; no field of the model's config holds it.
        cfg.mask_token_id = cfg.d_vocab - 1
        cfg.tokenizer_name = "gpt2"
        self.weight_processing_conversions = {}
        self.component_mapping = self._components()
        self.bridge_aliases = dict(CONDITIONING) if cfg.adaln else {}
        self.gates, self.modulations = (GATES, MODULATIONS) if cfg.adaln else ({}, {})
        self.final_modulation = ("backbone.hook_shift_final", "backbone.hook_scale_final") if cfg.adaln else ()
        self.unsound_processing = UNSOUND | (UNSOUND_IF_CONDITIONED if cfg.adaln else {})

    def _components(self) -> dict[str, Any]:
        cfg, head = self.cfg, "backbone.output_layer"
        conditioning = {
            "sigma_map": without_positions(
                MLPBridge(
                    name="backbone.sigma_map.mlp",
                    config=cfg,
                    submodules={"in": LinearBridge(name="0"), "out": LinearBridge(name="2")},
                )
            ),
            "adaln_final": without_positions(LinearBridge(name=f"{head}.adaLN_modulation")),
        }
        return {
            "embed": ParameterEmbeddingBridge(name="backbone.vocab_embed"),
            **(conditioning if cfg.adaln else {}),
            "blocks": AdaLNBlockBridge(name="backbone.blocks", config=cfg, adaln=cfg.adaln),
            "ln_final": LayerNormBridge(name=f"{head}.norm_final", config=cfg),
            "unembed": UnembeddingBridge(name=f"{head}.linear"),
            # Last: the parts above are found in the model before their container is replaced.
            "backbone": BlockDiffusionBackboneBridge(config=cfg),
        }

    def prepare_loading(self, model_name: str, model_kwargs: dict[str, Any]) -> None:
        """Let transformers 5 load a class that never calls `post_init`; no remote code runs without the opt-in."""
        if not model_kwargs.get("trust_remote_code"):
            return
        revision = model_kwargs.get("code_revision") or model_kwargs.get("revision")
        remote = force_import_remote_class(model_name, "modeling_bd3lm.BD3LM", revision=revision)
        if remote is not None:
            disable_tied_weights_lookup(remote)

    def prepare_model(self, hf_model: Any) -> None:
        """Give the model the tables that loading left on the meta device or rounded: its mask and its frequencies."""
        if isinstance(hf_model.backbone, BlockDiffusionBackboneBridge):
            raise ValueError("hf_model: another bridge is around this model already; give this one a model of its own")
        if hf_model.config.causal and hf_model.config.cross_attn:
            raise ValueError(
                "causal: got True with cross_attn=True, want one of them: attention takes one mask, not two"
            )
        # TransformerLens hands this field of the model's config to no one.
        self.cfg.attention_dir = "causal" if hf_model.config.causal else "bidirectional"
        backbone = hf_model.backbone
        for block in backbone.blocks:
            block.attn_backend = "sdpa"
        if backbone.cross_attn:
            backbone.gen_mask(backbone.n, backbone.block_size, attn_backend="sdpa")
        frequencies = backbone.rotary_emb.inv_freq
        wide = torch.promote_types(backbone.vocab_embed.embedding.dtype, torch.float32)
        if frequencies.dtype is not wide:
            width = 2 * len(frequencies)
            exponent = torch.arange(0, width, 2, dtype=wide, device=frequencies.device) / width
            backbone.rotary_emb.inv_freq = self.cfg.rotary_base**-exponent

    def prepare_tokenizer(self, tokenizer: Any) -> None:
        """Give GPT-2's tokenizer the mask token that the model has."""
        add_mask_token(tokenizer, self.cfg.mask_token_id)

    def native_sampler_kwargs(self, max_new_tokens: int, prompt_len: int) -> dict[str, Any]:
        """A budget of new tokens in the sampler's words."""
        return {"length": prompt_len + max_new_tokens}

    def set_block_size(self, bridge: Any, size: int) -> None:
        """Let a live model attend in blocks of another size, from 1 (autoregressive) to n (full diffusion).

        Raises:
            ValueError: a size that is no whole number from 1 to n, or does not divide n.
        """
        model = bridge.original_model
        backbone = model.backbone.original_component
        n = backbone.n
        if not backbone.cross_attn:
            raise ValueError("block_size: this model attends without blocks (cross_attn=False)")
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= n or n % size:
            sizes = ", ".join(str(each) for each in range(1, n + 1) if n % each == 0)
            raise ValueError(f"block_size: got {size!r}, want one that divides n = {n}: {sizes}")
        backbone.gen_mask(n, size, attn_backend="sdpa")
        blocks = (block.original_component for block in backbone.blocks)
        for owner in (backbone, *blocks, model.config, bridge.cfg):
            owner.block_size = size
