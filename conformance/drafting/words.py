"""Words by which models call the same things, and how large each is made in a miniature."""

from __future__ import annotations

from collections.abc import Mapping

SIZES: Mapping[str, tuple[str, ...]] = {
    "n": (
        "max_position_embeddings",
        "max_sequence_length",
        "max_seq_len",
        "max_seq_length",
        "model_length",
        "context_length",
        "seq_len",
        "n_positions",
        "n_ctx",
        "length",
    ),
    "block": ("block_size", "block_length"),
    "layers": ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "n_blocks", "num_blocks", "depth"),
    "heads": ("num_attention_heads", "n_heads", "n_head", "num_heads"),
    "kv_heads": ("num_key_value_heads", "n_kv_heads", "n_kv_head", "num_kv_heads"),
    "d_head": ("head_dim", "d_head"),
    "d_model": ("hidden_size", "d_model", "hidden_dim", "n_embd", "dim", "embed_dim", "model_dim"),
    "d_mlp": ("intermediate_size", "mlp_hidden_size", "d_ff", "d_mlp", "ffn_dim", "n_inner"),
    "d_vocab": ("vocab_size", "n_vocab", "vocabulary_size"),
    "d_cond": ("cond_dim", "time_embed_dim", "d_cond"),
    "experts": ("num_experts", "n_routed_experts", "num_local_experts"),
    "chosen": ("num_experts_per_tok", "num_experts_per_token"),
    "d_expert": ("moe_intermediate_size", "expert_intermediate_size"),
    "mask": ("mask_token_id", "mask_id", "mask_index", "mask_token_index"),
}
"""Our names of sizes, and the fields of a config that hold them, the likeliest first."""

SMALL: Mapping[str, int] = {
    "n": 24,
    "block": 4,
    "layers": 2,
    "heads": 4,
    "d_head": 8,
    "d_model": 32,
    "d_mlp": 48,
    "d_cond": 16,
    "experts": 4,
    "chosen": 2,
    "d_expert": 16,
}
"""The most that a size is in a miniature; what is smaller already stays as it is."""

SMALL_FIELDS: Mapping[str, int] = {
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "max_window_layers": 2,
    "sliding_window": 24,
}
"""The same of fields that no size is named after."""

BENCH: Mapping[str, int] = {
    "n": 256,
    "layers": 4,
    "d_head": 64,
    "d_model": 256,
    "d_mlp": 1024,
    "d_expert": 256,
    "d_cond": 128,
}
"""Sizes at which arithmetic dominates."""

VOCABULARY = 1000
"""A vocabulary of more is not that of a miniature: it gets the bundled tokenizer, one token for each character."""

TOKENIZER = "bd3lm"
"""The bundled miniature whose tokenizer that is; its last token but one ends a text, the last is nobody's."""

LEVELS = frozenset({"timesteps", "timestep", "t", "time", "sigma", "sigmas", "noise", "noise_level", "log_snr"})
"""Arguments that hold one noise level for each row."""

MASKS = ("attention_mask", "attention_bias", "attn_mask", "mask", "bias")
"""Arguments by which a caller says who may attend to whom."""

ENCODINGS = ("2-D int", "4-D additive", "4-D bool", "3-D bool")
"""Ways to write a mask that are tried; the others say the same in another type."""

ON_A_CPU: Mapping[str, object] = {
    "init_device": "cpu",
    "attn_backend": "sdpa",
    "flash_attention": False,
    "use_flash_attention": False,
    "use_flash_attn": False,
}
"""What a user sets in a config who runs the model on a CPU."""

BASES = ("rope_theta", "rotary_base", "rotary_emb_base")
ACTIVATIONS = ("hidden_act", "activation_type", "activation_function", "hidden_activation", "act_fn")
EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "layernorm_epsilon")

NORMS: Mapping[str, str] = {"rms": "RMS", "layernorm": "LN", "layer_norm": "LN"}
"""What TransformerLens calls a norm, by a part of the name of its class."""

IN_LAYER = ("ln1", "attn.q", "attn.o", "ln2", "mlp.in", "mlp.out")
IN_ORDER = ("embed", *(f"blocks.{{layer}}.{part}" for part in IN_LAYER), "ln_final", "unembed")
"""Points of most transformers in the order in which a forward passes them."""
