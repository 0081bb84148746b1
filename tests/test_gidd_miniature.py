"""The GIDD miniature against the fact sheet of the architecture: names, shapes, oddities, structural identities."""

from __future__ import annotations

import inspect
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.gidd import SPEC

FIXTURE = checkpoint.fixture_folder("gidd")
N, LAYERS, WIDTH, HEADS, INNER, VOCABULARY, MASK = 24, 2, 24, 4, 96, 67, 3
SAME = 2.5e-5
"""fp32 noise of the logits, whose spread is about 2, with room for another order of summation."""


@pytest.fixture(scope="module")
def stand_in() -> Callable[..., Any]:
    """`stand_in(mlp_bias=False)`: the remote class with that config, filled from the drawn weights."""
    from conformance.subject import Boot

    made: dict[str, Any] = {}

    def build(**fields: Any) -> Any:
        if repr(fields) not in made:
            made[repr(fields)] = Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True)
        return made[repr(fields)].construct()

    return build


def stream(seed: int = 0, length: int = N, rows: int = 2) -> Any:
    import torch

    return torch.randint(4, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def run(model: Any, ids: Any, **arguments: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=ids, **arguments).logits


def distance(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def kept(model: Any, ids: Any, **arguments: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=ids, use_cache=True, **arguments).past_key_values


def expected_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (VOCABULARY, WIDTH),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"model.layers.{layer}.{name}": shape
            for name, shape in {
                "attn_layernorm.weight": (WIDTH,),
                "mlp_layernorm.weight": (WIDTH,),
                **{f"self_attn.{part}_proj.weight": (WIDTH, WIDTH) for part in "qkvo"},
                "self_attn.q_norm.weight": (WIDTH,),
                "self_attn.k_norm.weight": (WIDTH,),
                "self_attn.k_bias": (HEADS, WIDTH // HEADS),
                "self_attn.v_bias": (HEADS, WIDTH // HEADS),
                "mlp.up_proj.weight": (INNER, WIDTH),
                "mlp.up_proj.bias": (INNER,),
                "mlp.down_proj.weight": (WIDTH, INNER),
                "mlp.down_proj.bias": (WIDTH,),
            }.items()
        }
    return shapes


def test_tensors_have_the_released_names_and_shapes() -> None:
    assert checkpoint.shapes(checkpoint.materialise(FIXTURE, SPEC)) == expected_shapes()


def test_modules_and_arguments_have_the_released_names(stand_in: Callable) -> None:
    model = stand_in()
    modeling, layer = sys.modules[type(model).__module__], model.model.layers[0]
    parts = (model, model.model, layer, layer.self_attn, layer.mlp, layer.attn_layernorm, layer.self_attn.q_proj)
    names = ("GiddForDiffusionLM", "GiddModel", "GiddLayer", "GiddAttention", "GiddMLP", "GiddRMSNorm", "ScaledLinear")
    assert tuple(type(part).__name__ for part in parts) == names
    assert [base.__name__ for base in type(model).__mro__[1:3]] == ["GiddPreTrainedModel", "PreTrainedModel"]
    assert "GenerationMixin" in {base.__name__ for base in type(model).__mro__}
    wanted = {
        model.forward: "input_ids inputs_embeds attention_mask position_ids past_key_values use_cache "
        "output_attentions output_hidden_states",
        model.generate: "inputs max_length min_length temperature block_length steps top_p top_k bos_token_id "
        "eos_token_id pad_token_id mask_token_id sampling_method noise_schedule tokens_per_step",
        model._init_weights: "module",
        modeling.GiddLayer: "config layer_idx dtype resid_scale",
        modeling.ScaledLinear: "in_features out_features scale use_bias dtype",
        modeling.compute_basic_frequencies: "base rotary_dim max_position_embeddings",
    }
    for function, arguments in wanted.items():
        assert list(inspect.signature(function).parameters) == arguments.split(), function
    # Sampler ids are defaults of the function, whatever the config says.
    ids = [inspect.signature(model.generate).parameters[f"{name}_token_id"].default for name in ("bos", "eos", "pad")]
    assert [*ids, inspect.signature(model.generate).parameters["mask_token_id"].default] == [0, 1, 2, MASK]


def test_a_model_constructed_in_another_precision_has_its_head_in_it() -> None:
    import torch

    config = checkpoint.read_config(FIXTURE, SPEC)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = checkpoint.construct(FIXTURE, SPEC, config)
    finally:
        torch.set_default_dtype(before)
    assert run(model, stream()).dtype is torch.bfloat16


def test_parts_are_left_out_as_the_config_says() -> None:
    for field, parts in {
        "use_qk_norm": ("q_norm", "k_norm"),
        "attention_bias": ("k_bias", "v_bias"),
        "mlp_bias": ("up_proj.bias", "down_proj.bias"),
    }.items():
        found = checkpoint.shapes(checkpoint.materialise(FIXTURE, SPEC, {field: False}))
        assert set(found) == {name for name in expected_shapes() if not any(part in name for part in parts)}


def test_the_rotary_table_is_in_no_checkpoint_and_is_lost_on_the_meta_device(stand_in: Callable) -> None:
    import torch

    model = stand_in()
    table = model.model.frequencies
    assert table.shape == (N, WIDTH // HEADS)
    assert "model.frequencies" in dict(model.named_buffers())
    assert "model.frequencies" not in model.state_dict()
    angle = 5 * 10_000 ** (-2 / 6)
    assert math.isclose(table[5, 1], math.cos(angle), rel_tol=1e-6)
    assert math.isclose(table[5, 4], math.sin(angle), rel_tol=1e-6)
    with torch.device("meta"):
        lost = checkpoint.construct(FIXTURE, SPEC, checkpoint.read_config(FIXTURE, SPEC))
    lost.load_state_dict(model.state_dict(), assign=True)
    assert lost.model.frequencies.is_meta


def test_plain_loading_fails_as_the_released_code_does(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    # Of other content, so that it becomes a class which no adapter has mended in this process.
    folder = Path(shutil.copytree(checkpoint.materialise(FIXTURE, SPEC), tmp_path / "other"))
    with (folder / "modeling_gidd.py").open("a") as file:
        file.write("\n# another file\n")
    with pytest.raises(AttributeError, match="all_tied_weights_keys"):
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


def test_weights_are_initialised_as_if_every_module_had_one(stand_in: Callable) -> None:
    model = stand_in()
    model._init_weights(model.lm_head)
    assert not model.lm_head.weight.any()
    with pytest.raises(AttributeError, match="weight"):
        model.apply(model._init_weights)


def test_freshly_constructed_it_is_degenerate_and_the_drawn_weights_are_not(stand_in: Callable) -> None:
    fresh, model = checkpoint.construct(FIXTURE, SPEC, checkpoint.read_config(FIXTURE, SPEC)), stand_in()
    for name, parameter in fresh.named_parameters():
        # Norms are offsets from 1, and begin as nothing.
        assert bool(parameter.any()) is (name == "model.embed_tokens.weight"), name
    assert run(fresh, stream()).abs().max() == 0
    before = run(model, stream())
    assert before.std() > 0.5
    for name, parameter in model.named_parameters():
        value = parameter.data.clone()
        parameter.data.zero_()
        assert distance(run(model, stream()), before) > 100 * SAME, name
        parameter.data.copy_(value)


def test_layers_and_attention_answer_with_dataclasses(stand_in: Callable) -> None:
    model, seen = stand_in(), {}
    layer = model.model.layers[0]
    for name, module in (("layer", layer), ("attention", layer.self_attn)):
        module.register_forward_hook(lambda m, a, output, name=name: seen.__setitem__(name, output))
    run(model, stream())
    assert {name: type(output).__name__ for name, output in seen.items()} == {
        "layer": "DecoderLayerOutput",
        "attention": "AttentionLayerOutput",
    }
    assert all(is_dataclass(output) and not isinstance(output, dict | tuple) for output in seen.values())


def test_forward_takes_ids_or_embeddings_and_no_noise_level(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream()
    with torch.no_grad():
        embedded = model(inputs_embeds=model.model.embed_tokens(ids)).logits
        told = model(input_ids=ids, output_hidden_states=True, output_attentions=True)
    assert embedded.equal(run(model, ids))
    assert [tuple(state.shape) for state in told.hidden_states] == [(2, N, WIDTH)] * (LAYERS + 1)
    assert [tuple(weights.shape) for weights in told.attentions] == [(2, HEADS, N, N + 1)] * LAYERS
    for wrong in ({}, {"input_ids": ids, "inputs_embeds": torch.zeros(2, N, WIDTH)}):
        with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
            model(**wrong)
    with pytest.raises(TypeError):
        model(input_ids=ids, timesteps=torch.zeros(2))


def test_norms_scale_by_one_more_than_their_weight(stand_in: Callable) -> None:
    import torch

    norm = stand_in().model.norm
    x = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    plain = torch.nn.functional.rms_norm(x, [WIDTH], eps=1e-6)
    torch.testing.assert_close(norm(x), plain * (1 + norm.weight))
    assert norm(x.bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize(("scaling", "factor"), [(0.5, 0.5), ("fan_in", 24**-0.5), ("fan_out", 96**-0.5)], ids=str)
def test_the_product_of_a_map_is_scaled_and_its_bias_is_not(stand_in: Callable, scaling: Any, factor: float) -> None:
    import torch

    up = stand_in(weight_scaling=scaling).model.layers[0].mlp.up_proj
    x = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(up(x), factor * x @ up.weight.T + up.bias)


def test_branches_are_added_by_their_share_of_the_depth(stand_in: Callable) -> None:
    assert [layer.resid_scale for layer in stand_in().model.layers] == [2.0] * 2
    assert [layer.resid_scale for layer in stand_in(num_hidden_layers=3).model.layers] == [4 / 3] * 3


def test_scores_stay_within_the_cap(stand_in: Callable) -> None:
    import torch

    inner = stand_in(attn_soft_cap=1.5).model.layers[0].self_attn.attention_performer
    q = torch.randn(1, 1, 5, 6, generator=torch.Generator().manual_seed(0)) * 100
    _, weights = inner(q, q, q, torch.ones(1, 5, 5, dtype=torch.bool))
    # Between the largest and the smallest weight of a row lie at most two caps, here just that.
    assert math.isclose((weights.amax(dim=-1) / weights.amin(dim=-1)).max(), math.exp(3), rel_tol=1e-3)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_either_way_of_attending_gives_the_same(stand_in: Callable) -> None:
    import torch

    allowed = torch.rand(2, N, N, generator=torch.Generator().manual_seed(0)) < 0.5
    eager, flex = stand_in(), stand_in(attn_performer="flex")
    for mask in (None, allowed):
        assert distance(run(eager, stream(), attention_mask=mask), run(flex, stream(), attention_mask=mask)) < SAME
    with pytest.raises(ValueError, match="attn_performer"):
        stand_in(attn_performer="other")


def test_every_token_sees_every_other_whatever_the_config_says_of_causality(stand_in: Callable) -> None:
    one, other = stream(), stream()
    other[:, -1] = (other[:, -1] - 3) % 60 + 4
    model = stand_in()
    moved = (run(model, one) - run(model, other)).abs().amax(dim=(0, 2))
    assert (moved > 100 * SAME).all()
    assert run(stand_in(is_causal=True), one).equal(run(model, one))


def test_order_is_seen_and_positions_are_absolute_because_of_the_slot(stand_in: Callable) -> None:
    import torch

    ids, later = stream(length=12), torch.arange(7, 19)[None]
    model, slotless = stand_in(), stand_in(attention_bias=False)
    swapped = ids[:, [1, 0, *range(2, 12)]]
    assert distance(run(model, swapped)[:, 2:], run(model, ids)[:, 2:]) > 100 * SAME
    assert distance(run(slotless, ids, position_ids=later), run(slotless, ids)) < SAME
    assert distance(run(model, ids, position_ids=later), run(model, ids)) > 100 * SAME


def test_masks_over_keys_and_over_pairs_hide_what_they_hide(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream()
    keep = torch.ones(2, N, dtype=torch.bool)
    keep[:, 20:] = False
    alone = run(model, ids[:, :20])
    for mask in (keep, keep.long(), keep.float(), keep[:, None].expand(-1, N, -1)):
        assert distance(run(model, ids, attention_mask=mask)[:, :20], alone) < SAME
    # Of numbers only ones count.
    assert run(model, ids, attention_mask=2 * keep.long()).equal(run(model, ids, attention_mask=keep & False))
    with pytest.raises(ValueError, match="attention_mask"):
        model(input_ids=ids, attention_mask=keep[:, None, None])


def test_who_sees_nothing_sees_the_slot(stand_in: Callable) -> None:
    import torch

    hidden = torch.zeros(2, N, dtype=torch.bool)
    with torch.no_grad():
        told = stand_in()(input_ids=stream(), attention_mask=hidden, output_attentions=True)
    assert all(weights[..., 0].eq(1).all() for weights in told.attentions)


@pytest.mark.parametrize("fields", [{}, {"attention_bias": False}], ids=["slot", "no slot"])
def test_noise_behind_kept_keys_is_noise_on_the_whole_canvas(stand_in: Callable, fields: dict[str, Any]) -> None:
    import torch

    model, ids, start = stand_in(**fields), stream(), 9
    noisy = torch.arange(N) >= start
    whole = run(model, ids, attention_mask=(noisy[:, None] | ~noisy[None]).expand(2, -1, -1))
    past = kept(model, ids[:, :start])
    slot = int(model.config.attention_bias)
    assert [tuple(tensor.shape) for pair in past for tensor in pair] == [(2, HEADS, slot + start, 6)] * 2 * LAYERS
    if slot:
        assert past[1][0][0, :, 0].equal(model.model.layers[1].self_attn.k_bias)
    window = run(model, ids[:, start:], past_key_values=past)
    assert distance(window, whole[:, start:]) < SAME
    assert distance(run(model, ids[:, :start]), whole[:, :start]) < SAME
    # In a cache of two chunks the slot is in the first one.
    twice = kept(model, ids[:, 4:start], past_key_values=kept(model, ids[:, :4]))
    assert twice[0][0].shape == past[0][0].shape


def test_the_fields_have_the_released_defaults(stand_in: Callable) -> None:
    config = type(stand_in().config)()
    told = {
        "vocab_size": 131072,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 2048,
        "rope_theta": 10_000,
        "rms_norm_eps": 1e-6,
        "attn_soft_cap": 30,
        "resid_scale": 4,
        "weight_scaling": "fan_in",
        "use_qk_norm": True,
        "is_causal": False,
        "min_log_snr": -9,
        "max_log_snr": 9,
    }
    assert {name: getattr(config, name) for name in told} == told
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 1, 2)


def test_the_tokenizer_has_the_ids_of_the_sampler() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FIXTURE, trust_remote_code=True)
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id)
    assert ids == (0, 1, 2, MASK)
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.decode(tokenizer("Noise undone")["input_ids"], skip_special_tokens=True) == "Noise undone"
