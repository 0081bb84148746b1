"""Adapters of TransformerLens whose remote code transformers 5 cannot load, with what a user puts right first."""

from __future__ import annotations

from typing import Any

from transformer_lens.model_bridge.supported_architectures.llada import LLaDAArchitectureAdapter


class LLaDA(LLaDAArchitectureAdapter):
    """The shipped adapter of LLaDA, which boots.

    Two things in the released class break transformers 5 (ML-GSAI/LLaDA#130): it never calls `post_init`, which would
    set `all_tied_weights_keys`, and its `tie_weights` takes none of the keywords that loading passes. No released
    checkpoint ties weights, so an empty table is the true one. For its other models of this kind TransformerLens does
    the like, in the same place; everything else is the shipped adapter's.
    """

    def prepare_loading(self, model_name: str, model_kwargs: dict[str, Any]) -> None:
        """Mend the class that is about to be loaded, if its code may run at all."""
        super().prepare_loading(model_name, model_kwargs)
        if not model_kwargs.get("trust_remote_code"):
            return
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        revisions = {name: model_kwargs[name] for name in ("revision", "code_revision") if name in model_kwargs}
        named = model_kwargs["config"].auto_map["AutoModelForCausalLM"]
        remote: Any = get_class_from_dynamic_module(named, model_name, **revisions)
        if "all_tied_weights_keys" in vars(remote):
            return
        remote.all_tied_weights_keys = {}
        narrow = remote.tie_weights
        remote.tie_weights = lambda self, **_: narrow(self)
