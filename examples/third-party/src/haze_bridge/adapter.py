"""The adapter: which part of Haze each component of a bridge is."""

from __future__ import annotations

from typing import Any

from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import (
    AttentionBridge,
    BlockBridge,
    EmbeddingBridge,
    LinearBridge,
    MLPBridge,
    NormalizationBridge,
    PosEmbedBridge,
    UnembeddingBridge,
)


class HazeAdapter(ArchitectureAdapter):
    """Attention is left to the model, which has no causal mask; so nothing is folded, and nothing generated."""

    supports_generation = False
    supports_causal_loss = False
    supports_fold_ln = False

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        cfg.normalization_type, cfg.eps = "LN", 1e-5
        cfg.act_fn, cfg.gated_mlp = "gelu", False
        cfg.positional_embedding_type, cfg.attention_dir = "standard", "bidirectional"
        self.weight_processing_conversions = {}
        projections = {part: LinearBridge(name=f"{part}_proj") for part in "qkvo"}
        layer = {
            "ln1": NormalizationBridge(name="norm_1", config=cfg),
            "attn": AttentionBridge(
                name="attention", config=cfg, submodules=projections, maintain_native_attention=True
            ),
            "ln2": NormalizationBridge(name="norm_2", config=cfg),
            "mlp": MLPBridge(name="mlp", submodules={"in": LinearBridge(name="up"), "out": LinearBridge(name="down")}),
        }
        self.component_mapping = {
            "embed": EmbeddingBridge(name="tokens"),
            "pos_embed": PosEmbedBridge(name="places"),
            "level": MLPBridge(name="level", submodules={"in": LinearBridge(name="0"), "out": LinearBridge(name="2")}),
            "blocks": BlockBridge(name="layers", config=cfg, submodules=layer),
            "ln_final": NormalizationBridge(name="norm", config=cfg),
            "unembed": UnembeddingBridge(name="head"),
        }

    def prepare_model(self, hf_model: Any) -> None:
        """Tell the bridge what its config has no words of TransformerLens's for."""
        config = hf_model.config
        self.cfg.n_ctx, self.cfg.d_mlp, self.cfg.mask_token_id = config.context_length, config.d_ff, config.mask_id
