"""What TransformerLens's adapter of Dream does when it loads: in the way, in both tables, and to the weights."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.dream import SPEC
from conformance.adapters.dream_repaired import SPEC as REPAIRED

FIXTURE = checkpoint.fixture_folder("dream")


def loaded() -> Any:
    """A bridge of the shipped adapter, its one mistake mended, booted while memory that nobody has filled holds nan."""
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    folder = str(checkpoint.materialise(FIXTURE, SPEC, {"initializer_range": 0.04}))
    model: Any = get_class_from_dynamic_module("modeling_dream.DreamModel", folder)
    sys.modules[model.__module__].DreamGenerationConfig.validate = lambda self, *_, **__: None
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        return TransformerBridge.boot_transformers(folder, trust_remote_code=True, device="cpu", dtype=torch.float32)
    finally:
        torch.use_deterministic_algorithms(before)


def copies(name: str) -> dict[str, Any]:
    """Modules of this name that transformers has imported for the miniature, by their full names."""
    return {path: module for path, module in sys.modules.items() if path.endswith(f".{name}") and "dreammodel" in path}


def test_the_shipped_adapter_mends_a_copy_that_the_model_does_not_use() -> None:
    from transformer_lens.model_bridge import TransformerBridge

    folder = checkpoint.materialise(FIXTURE, SPEC, {"initializer_range": 0.03})
    with pytest.raises(TypeError, match="user_set_attributes"):
        TransformerBridge.boot_transformers(str(folder), trust_remote_code=True, device="cpu")
    here = folder.name.replace("-", "_hyphen_")
    (modeling,) = (module for path, module in copies("modeling_dream").items() if here in path)
    kinds = [module.DreamGenerationConfig for path, module in copies("generation_utils").items() if here in path]
    used = modeling.DreamGenerationConfig
    assert used in kinds
    mended = [kind for kind in kinds if kind is not used and kind.validate.__name__ == "<lambda>"]
    assert len(mended) == 1
    assert used.validate.__name__ == "validate"


def test_loaded_it_holds_every_weight_and_no_table_in_either_place() -> None:
    from safetensors.torch import load_file

    from conformance.components import parameters

    bridge = loaded()
    saved = load_file(checkpoint.materialise(FIXTURE, SPEC) / checkpoint.WEIGHTS)
    held = list(parameters(bridge.original_model).values())
    for name, tensor in saved.items():
        assert any(one.shape == tensor.shape and one.equal(tensor) for one in held), name
    rotary = bridge.original_model.model.rotary_emb.original_component
    own = [layer.self_attn.original_component.rotary_emb for layer in bridge.original_model.model.layers]
    for table in (rotary, *own):
        assert table.inv_freq.isnan().all()
        assert table.original_inv_freq.is_meta
    bridge.original_model.reset_rope_parameters()
    for table in (rotary, *own):
        assert (table.inv_freq - 1e6 ** -(table.inv_freq.new_tensor([0, 2, 4, 6]) / 8)).abs().max() < 1e-7


def test_with_its_tables_computed_anew_it_gives_the_model_s_logits_with_a_cache_and_without() -> None:
    import torch

    from conformance.subject import Boot

    pair = Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC), trusted=True).pairs["plain"]
    ids, want, bridge = pair.inputs["input_ids"], pair.reference_logits(), loaded()
    with torch.no_grad():
        assert not bridge(ids).isfinite().all()
        bridge.original_model.reset_rope_parameters()
        assert (bridge(ids) - want).abs().max() < 1e-5
        cached, cache = bridge.run_with_cache(ids)
    assert (cached - want).abs().max() < 1e-5
    assert cache["blocks.0.attn.hook_pattern"].shape == (2, 4, 24, 24)


def test_a_mask_of_bools_is_lost_where_attention_is_shown() -> None:
    import torch

    from conformance.subject import Boot

    boot = Boot(REPAIRED, checkpoint.materialise(FIXTURE, REPAIRED), trusted=True)
    inputs = dict(boot.pairs["masked"].inputs)
    ids = inputs.pop("input_ids")
    with torch.no_grad():
        plain = boot.bridge(ids, **inputs)
        cached, cache = boot.bridge.run_with_cache(ids, **inputs)
    later = torch.ones(24, 24, dtype=torch.bool).triu(1)
    assert (plain - cached).abs().max() > 0.1
    assert (cache["blocks.0.attn.hook_pattern"][..., later] > 0).all()


def test_the_model_s_word_for_no_mask_is_for_its_sampler_alone() -> None:
    import torch

    from conformance.subject import Boot

    built = Boot(REPAIRED, checkpoint.materialise(FIXTURE, REPAIRED), trusted=True)
    ids, by_name = built.pairs["plain"].inputs["input_ids"], loaded()
    by_name.original_model.reset_rope_parameters()
    for bridge in (built.bridge, by_name):
        with pytest.raises(AttributeError, match="ndim"):
            bridge(ids, attention_mask="full")
        with torch.no_grad():
            assert bridge.original_model(ids, attention_mask="full").logits.equal(bridge(ids))
    with torch.no_grad():
        shown = by_name.original_model(ids, attention_mask="full", output_attentions=True)
    assert shown.logits.equal(by_name.run_with_cache(ids)[0])
    # The adapter mends the class of the folder that it is told, whatever model it is handed.
    with pytest.raises(TypeError):
        built.bridge.original_model(ids, attention_mask="full", output_attentions=True)
