"""What TransformerLens's adapter of LLaDA2-MoE does when it loads: every weight, and no table of rotation."""

from __future__ import annotations

from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.llada2_moe import SPEC
from conformance.repairs import refill_rope

FIXTURE = checkpoint.fixture_folder("llada2_moe")


@pytest.fixture
def loaded() -> Any:
    """A bridge of the shipped adapter, booted while memory that nobody has filled holds nan."""
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    from conformance.unfilled import nan_where_unfilled

    folder = str(checkpoint.materialise(FIXTURE, SPEC))
    with nan_where_unfilled():
        return TransformerBridge.boot_transformers(folder, trust_remote_code=True, device="cpu", dtype=torch.float32)


def table_of(bridge: Any) -> Any:
    return bridge.original_model.model.rotary_emb.original_component.inv_freq


def pair() -> Any:
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC), trusted=True).pairs["blocks"]


def test_loaded_it_holds_every_weight_and_no_table(loaded: Any) -> None:
    from safetensors.torch import load_file

    from conformance.components import own_name

    held = {own_name(name): tensor for name, tensor in loaded.original_model.state_dict().items()}
    for name, tensor in load_file(checkpoint.materialise(FIXTURE, SPEC) / checkpoint.WEIGHTS).items():
        assert held[name].equal(tensor), name
    assert table_of(loaded).isnan().all()
    assert loaded.original_model.model.rotary_emb.original_component.original_inv_freq.is_meta


def test_computed_anew_the_table_is_the_model_s_and_so_are_the_logits(loaded: Any) -> None:
    import torch

    judged = pair()
    inputs = dict(judged.inputs)
    ids = inputs.pop("input_ids")
    with torch.no_grad():
        assert not loaded(ids, **inputs).isfinite().all()
        refill_rope(loaded)
        assert table_of(loaded).equal(judged.boot.reference.model.rotary_emb.inv_freq)
        assert (loaded(ids, **inputs) - judged.reference.logits).abs().max() < 1e-5


def test_what_transformers_fills_tables_by_is_never_called_for_this_class(loaded: Any) -> None:
    kind = type(loaded.original_model.model.rotary_emb.original_component)
    # The adapter gives the class this function, for an `_init_weights` that the model has replaced.
    assert hasattr(kind, "compute_default_rope_parameters")
    assert "_init_weights" in {name for base in type(loaded.original_model).__mro__[:2] for name in vars(base)}
    table_of(loaded).fill_(0.5)
    loaded.original_model._init_weights(loaded.original_model.model.rotary_emb.original_component)
    assert table_of(loaded).eq(0.5).all()
