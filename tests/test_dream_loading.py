"""Loading Dream under transformers 5: without help, and by TransformerLens's adapter."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.dream import SPEC
from conformance.adapters.dream_repaired import SPEC as REPAIRED

FIXTURE = checkpoint.fixture_folder("dream")


@contextmanager
def empty_is_nan() -> Iterator[None]:
    """Memory that nobody has filled holds nan, so that it shows."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def loaded() -> Any:
    """A bridge of the shipped adapter, its one mistake mended, booted while memory that nobody has filled holds nan."""
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    folder = str(checkpoint.materialise(FIXTURE, SPEC, {"initializer_range": 0.04}))
    model: Any = get_class_from_dynamic_module("modeling_dream.DreamModel", folder)
    sys.modules[model.__module__].DreamGenerationConfig.validate = lambda self, *_, **__: None
    with empty_is_nan():
        return TransformerBridge.boot_transformers(folder, trust_remote_code=True, device="cpu", dtype=torch.float32)


def _logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.arange(24)[None]).logits


def copies(name: str) -> dict[str, Any]:
    """Modules of this name that transformers has imported for the miniature, by their full names."""
    return {path: module for path, module in sys.modules.items() if path.endswith(f".{name}") and "dreammodel" in path}


def test_without_the_old_rotary_initialiser_nothing_is_built(tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = Path(shutil.copytree(checkpoint.materialise(FIXTURE, SPEC), tmp_path / "other"))
    with pytest.raises(KeyError, match="default"):
        AutoModel.from_pretrained(folder, trust_remote_code=True)
    with (folder / "modeling_dream.py").open("a") as file:
        file.write("\n# of other content, so that no shim has reached it\n")
    plain = replace(SPEC, shim=None)
    with pytest.raises(KeyError, match="default"):
        checkpoint.construct(folder, plain, checkpoint.read_config(folder, plain))


def test_loading_keeps_every_weight_and_leaves_every_table_uninitialised(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel

    folder = Path(shutil.copytree(checkpoint.materialise(FIXTURE, SPEC), tmp_path / "mended"))
    with (folder / "modeling_dream.py").open("a") as file:
        file.write("\nfrom conformance import shims\nimport sys\nshims.dream(sys.modules[__name__])\n")
    with empty_is_nan():
        model: Any = AutoModel.from_pretrained(folder, trust_remote_code=True)
    saved = load_file(folder / checkpoint.WEIGHTS)
    assert all(tensor.equal(saved[name]) for name, tensor in model.state_dict().items())
    tables = dict(model.named_buffers())
    assert len(tables) == 2 + 1
    assert all(table.isnan().all() for table in tables.values())
    assert model.model.rotary_emb.original_inv_freq.is_meta
    assert _logits(model).isnan().any()
    model.reset_rope_parameters()
    fresh = dict(checkpoint.construct(FIXTURE, SPEC, checkpoint.read_config(FIXTURE, SPEC)).named_buffers())
    assert all(table.equal(fresh[name]) for name, table in model.named_buffers())
    assert not model.model.rotary_emb.original_inv_freq.is_meta
    assert torch.isfinite(_logits(model)).all()


def test_the_sampler_s_configuration_is_of_transformers_4(tmp_path: Path) -> None:
    import importlib

    # Its own copy, which no shim has reached.
    (tmp_path / "released_generation_utils.py").write_text((FIXTURE / "generation_utils.py").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        options = importlib.import_module("released_generation_utils").DreamGenerationConfig
    assert list(inspect.signature(options.validate).parameters) == ["self", "is_init"]
    plain = options(steps=7)
    assert (plain.alg, plain.steps, plain.eps, plain.temperature, plain.mask_token_id) == ("origin", 7, 1e-3, 0.0, None)
    for new in ("user_set_attributes", "watermarking_config"):
        assert not hasattr(plain, new)
    with pytest.raises(TypeError, match="user_set_attributes"):
        plain.update(steps=8)
    with pytest.raises(TypeError, match="user_set_attributes"):
        options.from_pretrained(FIXTURE)
    options.validate = lambda self, *_, **__: None
    assert options.from_pretrained(FIXTURE).steps == 512
    with pytest.raises(AttributeError):
        options.from_model_config(checkpoint.construct(FIXTURE, SPEC, checkpoint.read_config(FIXTURE, SPEC)).config)


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


def test_a_padded_canvas_keeps_its_mask_and_positions_on_the_way_through_the_bridge() -> None:
    import torch

    from conformance.subject import Boot

    boot = Boot(REPAIRED, checkpoint.materialise(FIXTURE, REPAIRED), trusted=True)
    ids = boot.pairs["plain"].inputs["input_ids"]
    keep = torch.ones_like(ids, dtype=torch.bool)
    keep[0, :3] = False
    positions = (keep.long().cumsum(-1) - 1).masked_fill(~keep, 1)
    given = {"attention_mask": keep[:, None, :, None] & keep[:, None, None, :], "position_ids": positions}
    with torch.no_grad():
        got, want = boot.bridge(ids, **given), boot.reference(ids, **given).logits
        alone = boot.reference(ids[:1, 3:]).logits
        # Positions that are swapped in pairs, which no mask could bring about.
        swapped = torch.arange(24).view(-1, 2).flip(-1).view(1, -1)
        moved = boot.bridge(ids, position_ids=swapped) - boot.reference(ids, position_ids=swapped).logits
    assert (got - want).abs().max() < 1e-5
    assert (got[:1, 3:] - alone).abs().max() < 1e-5
    assert moved.abs().max() < 1e-5
    assert (boot.bridge(ids) - boot.bridge(ids, position_ids=swapped)).abs().max() > 1e-2
