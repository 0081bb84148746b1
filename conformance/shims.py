"""Shims: what remote code for an older transformers needs before its classes can be constructed at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def default_rope(modeling: Any) -> None:
    """Give a modeling module a table of rotary initialisers of its own, with the entry "default".

    Transformers 4 had it in `ROPE_INIT_FUNCTIONS`, transformers 5 does not. The shared table is left alone.
    """
    shared = modeling.ROPE_INIT_FUNCTIONS
    if "default" not in shared:
        modeling.ROPE_INIT_FUNCTIONS = {**shared, "default": inverse_frequencies}


def inverse_frequencies(config: Any = None, device: Any = None, seq_len: int | None = None) -> tuple[Tensor, float]:
    """Inverse frequencies `d/2` of the d channels that are rotated, and the factor on cos and sin, which is 1.

    theta^(-2i/d) (arXiv 2104.09864); d is a head's width times `partial_rotary_factor`, where the config has one.
    """
    import torch

    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotated = int(width * (getattr(config, "partial_rotary_factor", None) or 1.0))
    exponents = torch.arange(0, rotated, 2, device=device).float() / rotated
    # As transformers 4 rounds it, to the bit.
    return 1.0 / config.rope_theta**exponents, 1.0


def dream(modeling: Any) -> None:
    """Give Dream's modeling module the rotary initialiser, and its sampler's configuration the keywords of today.

    Transformers 5 validates with a keyword that the released class does not take, and compares all of its fields with
    those of a class that does not have them, where the model's config is to be taken.
    """
    default_rope(modeling)
    options = modeling.DreamGenerationConfig
    options.validate = lambda self, *_, **__: None
    options.from_model_config = classmethod(_special_ids)


def _special_ids(options: Any, config: Any) -> Any:
    """A sampler's configuration with the ids that a model's config has, and defaults besides."""
    names = ("mask_token_id", "pad_token_id", "bos_token_id", "eos_token_id")
    return options(_from_model_config=True, **{name: getattr(config, name, None) for name in names})
