"""Adapters of TransformerLens whose remote code transformers 5 cannot load, with what a user puts right first."""

from __future__ import annotations

import sys
from typing import Any

from transformer_lens.model_bridge.supported_architectures import dream


class Dream(dream.DreamArchitectureAdapter):
    """The shipped adapter of Dream, which boots.

    It mends the sampler's configuration, a class that loading uses, in a copy of `generation_utils.py` imported for
    that alone. Of a folder transformers keeps files that are imported on their own apart, and of a hub repository it
    runs them once more, so that the model's own copy stays as it was and loading ends in a TypeError. Here the same
    is done to the class that the model uses; everything else is the shipped adapter's.
    """

    def prepare_loading(self, model_name: str, model_kwargs: dict[str, Any]) -> None:
        """Mend the class that is about to be used, if its code may run at all."""
        super().prepare_loading(model_name, model_kwargs)
        if not model_kwargs.get("trust_remote_code"):
            return
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        revisions = {name: model_kwargs[name] for name in ("revision", "code_revision") if name in model_kwargs}
        named = model_kwargs["config"].auto_map["AutoModel"]
        remote: Any = get_class_from_dynamic_module(named, model_name, **revisions)
        options: Any = sys.modules[remote.__module__].DreamGenerationConfig
        options.validate = lambda self, *_, **__: None
        dream._patch_from_model_config(options)


def reset_rope(bridge: Any) -> None:
    """Compute Dream's tables of rotation anew, by the model's public method: loading leaves them uninitialised."""
    bridge.original_model.reset_rope_parameters()


def refill_rope(bridge: Any) -> None:
    """Compute LLaDA2's table of rotation anew, by the model's own initialiser: loading leaves it uninitialised.

    Its documentation says nothing of it; transformers fills such tables in an `_init_weights` of its own, which the
    released class replaces.
    """
    rotary = bridge.original_model.model.rotary_emb
    rotary = getattr(rotary, "original_component", rotary)
    table, rotary.attention_scaling = rotary.rope_init_fn(rotary.config, rotary.inv_freq.device)
    rotary.inv_freq.copy_(table)
    rotary.original_inv_freq = rotary.inv_freq
