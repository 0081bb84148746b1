"""The Dream miniature against the fact sheet of the architecture: names, shapes, oddities, structural identities."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.dream import SPEC

FIXTURE = checkpoint.fixture_folder("dream")
N, LAYERS, WIDTH, HIDDEN, VOCABULARY, MASK, GROUPS, HEAD = 24, 2, 32, 40, 67, 64, 2, 8
SAME = 1e-5
"""fp32 noise of the miniature's logits, whose spread is about 1, with room for another order of summation."""


@pytest.fixture
def stand_in() -> Callable[..., Any]:
    """`stand_in(num_key_value_heads=4)`: the remote class with that config, filled from the drawn weights."""
    from conformance.subject import Boot

    def build(**fields: Any) -> Any:
        return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True).construct()

    return build


def stream(seed: int, length: int = N, *, masked: float = 0.0) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(MASK, (2, length), generator=generator)
    return ids.masked_fill(torch.rand((2, length), generator=generator) < masked, MASK)


def run(model: Any, ids: Any, *arguments: Any, **named: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(ids, *arguments, **named).logits


def distance(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def causal() -> Any:
    import torch

    return torch.ones(1, 1, N, N, dtype=torch.bool).tril()


def additive(allowed: Any) -> Any:
    return allowed.float().log()


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
                "input_layernorm.weight": (WIDTH,),
                "post_attention_layernorm.weight": (WIDTH,),
                "self_attn.q_proj.weight": (WIDTH, WIDTH),
                "self_attn.q_proj.bias": (WIDTH,),
                "self_attn.k_proj.weight": (GROUPS * HEAD, WIDTH),
                "self_attn.k_proj.bias": (GROUPS * HEAD,),
                "self_attn.v_proj.weight": (GROUPS * HEAD, WIDTH),
                "self_attn.v_proj.bias": (GROUPS * HEAD,),
                "self_attn.o_proj.weight": (WIDTH, WIDTH),
                "mlp.gate_proj.weight": (HIDDEN, WIDTH),
                "mlp.up_proj.weight": (HIDDEN, WIDTH),
                "mlp.down_proj.weight": (WIDTH, HIDDEN),
            }.items()
        }
    return shapes


def test_tensors_have_the_released_names_and_shapes() -> None:
    assert checkpoint.shapes(checkpoint.materialise(FIXTURE, SPEC)) == expected_shapes()


def test_every_layer_has_a_table_of_its_own_and_no_file_has_any(stand_in: Callable) -> None:
    model = stand_in()
    tables = [name for name, _ in model.named_buffers()]
    assert tables == [
        *(f"model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in range(LAYERS)),
        "model.rotary_emb.inv_freq",
    ]
    assert not {name for name in model.state_dict() if "inv_freq" in name}
    for name, table in model.named_buffers():
        assert distance(table, 1e6 ** -(table.new_tensor([0, 2, 4, 6]) / HEAD)) < 1e-7, name


def test_modules_arguments_and_flags_are_the_released_ones(stand_in: Callable) -> None:
    model = stand_in()
    modeling = sys.modules[type(model).__module__]
    assert [kind.__name__ for kind in type(model).__mro__[1:3]] == ["DreamGenerationMixin", "DreamPreTrainedModel"]
    layer = model.model.layers[0]
    assert type(layer.self_attn).__name__ == "DreamSdpaAttention"
    assert isinstance(layer.self_attn, modeling.DreamAttention)
    assert (type(layer.mlp).__name__, type(model.model.norm).__name__) == ("DreamMLP", "DreamRMSNorm")

    def told(method: Any) -> list[str]:
        return list(inspect.signature(method).parameters)

    asked = ["input_ids", "attention_mask", "position_ids", "past_key_values", "inputs_embeds", "labels", "use_cache"]
    shown = ["output_attentions", "output_hidden_states", "return_dict", "cache_position", "num_logits_to_keep"]
    assert told(model.forward) == [*asked, *shown, "loss_kwargs"]
    attends = ["hidden_states", "attention_mask", "position_ids", "past_key_value", "output_attentions", "use_cache"]
    assert told(layer.self_attn.forward) == [*attends, "cache_position", "position_embeddings"]
    turns = ["dim", "max_position_embeddings", "base", "device", "scaling_factor", "rope_type", "config"]
    assert told(modeling.DreamRotaryEmbedding) == turns
    hooks = ["generation_tokens_hook_func", "generation_logits_hook_func"]
    assert told(model._sample) == ["input_ids", "attention_mask", "generation_config", *hooks]
    assert told(model.diffusion_generate) == ["inputs", "generation_config", "kwargs"]
    assert told(model.reset_rope_parameters) == told(model.model.rotary_emb.reset_parameters) == []
    assert told(model._init_weights) == ["module"]
    generation = sys.modules[modeling.DreamGenerationMixin.__module__]
    assert told(generation.DreamModelOutput) == ["sequences", "history"]
    assert "from_pretrained" in vars(modeling.DreamPreTrainedModel)
    assert type(model)._tied_weights_keys == ["lm_head.weight"]
    assert type(model)._supports_cache_class


def test_config_and_tokenizer_disagree_on_how_a_text_begins() -> None:
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(FIXTURE, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(FIXTURE, trust_remote_code=True)
    assert (config.model_type, config.mask_token_id) == ("Dream", MASK)
    assert config.bos_token_id == config.eos_token_id == config.pad_token_id == 62
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id)
    assert ids == (63, 62, 62, MASK)
    text = "is the thing in?\nyes, 42 times."
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("in the").input_ids) == 2
    assert tokenizer.decode([MASK]) == "<|mask|>"


def test_weights_begin_without_the_base_class(stand_in: Callable) -> None:
    import torch

    model = stand_in()
    table, norm = model.model.rotary_emb, model.model.norm
    torch.nn.init.constant_(table.inv_freq, 5.0), torch.nn.init.constant_(norm.weight, 5.0)
    model._init_weights(table), model._init_weights(norm), model._init_weights(model.lm_head)
    assert (table.inv_freq == 5).all()
    assert (norm.weight == 5).all()
    assert 0.01 < model.lm_head.weight.std() < 0.03


def test_forward_oddities(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0)
    with torch.no_grad():
        output = model(ids, labels=ids, output_hidden_states=True, output_attentions=True, num_logits_to_keep=3)
    assert type(output).__name__ == "MaskedLMOutput"
    assert output.loss is None
    assert output.logits.shape == (2, 3, VOCABULARY)
    assert output.logits.equal(run(model, ids, output_attentions=True)[:, -3:])
    assert [tuple(state.shape) for state in output.hidden_states] == [(2, N, WIDTH)] * (LAYERS + 1)
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 4, N, N)] * LAYERS
    assert run(model, ids, misspelt=1).equal(run(model, ids))
    assert isinstance(model(ids, return_dict=False), tuple)
    with pytest.raises(ValueError, match="input_ids"):
        model()


@pytest.mark.parametrize("length", [1, 5, N])
def test_full_is_the_same_as_no_mask(stand_in: Callable, length: int) -> None:
    model, ids = stand_in(), stream(0, length)
    assert run(model, ids, "full").equal(run(model, ids))


def test_the_fused_kernel_reads_a_mask_of_bools_and_the_other_path_adds_it(stand_in: Callable) -> None:
    model, ids = stand_in(), stream(0)
    masked = run(model, ids, causal())
    assert distance(masked, run(model, ids)) > 100 * SAME
    assert distance(masked, run(model, ids, additive(causal()))) < SAME
    assert distance(masked, run(model, ids, additive(causal()), output_attentions=True)) < SAME
    added = run(model, ids, causal(), output_attentions=True)
    assert distance(masked, added) > 100 * SAME
    assert distance(run(model, ids, causal().float()), added) < SAME
    with pytest.raises(TypeError):
        run(model, ids, "full", output_attentions=True)


def test_two_tables_turn_and_each_on_its_own_path(stand_in: Callable) -> None:
    model, ids = stand_in(), stream(0)
    plain, shown = run(model, ids), run(model, ids, output_attentions=True)
    assert distance(plain, shown) < SAME
    model.model.layers[1].self_attn.rotary_emb.inv_freq.mul_(3)
    assert run(model, ids).equal(plain)
    assert distance(run(model, ids, output_attentions=True), shown) > 100 * SAME
    model.reset_rope_parameters()
    model.model.rotary_emb.inv_freq.mul_(3)
    assert distance(run(model, ids), plain) > 100 * SAME
    assert run(model, ids, output_attentions=True).equal(shown)


@pytest.mark.parametrize("shown", [False, True])
def test_under_a_causal_mask_it_is_the_model_it_was_made_from(stand_in: Callable, shown: bool) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model, ids = stand_in(), stream(0)
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    names = (*names, "num_key_value_heads", "max_position_embeddings", "rms_norm_eps")
    fields = {name: getattr(model.config, name) for name in names}
    ancestor = Qwen2ForCausalLM(
        Qwen2Config(**fields, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=False)
    ).eval()
    ancestor.load_state_dict(model.state_dict())
    assert distance(run(ancestor, ids), run(model, ids, additive(causal()), output_attentions=shown)) < SAME
    assert distance(run(ancestor, ids), run(model, ids)) > 100 * SAME


def test_everyone_sees_everyone_and_only_positions_tell_them_apart(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0)
    order, positions = torch.randperm(N, generator=torch.Generator().manual_seed(0)), torch.arange(N)[None]
    shuffled = run(model, ids[:, order], position_ids=positions[:, order])
    assert distance(shuffled, run(model, ids)[:, order]) < SAME
    assert distance(run(model, ids[:, order]), run(model, ids)[:, order]) > 100 * SAME
    # Only differences of positions count.
    assert distance(run(model, ids, position_ids=positions + 7), run(model, ids)) < SAME
    last = ids.clone()
    last[:, -1] = (last[:, -1] + 1) % MASK
    assert (run(model, last) - run(model, ids)).abs().amax(-1).min() > SAME


@pytest.mark.parametrize("groups", [1, 2])
def test_heads_share_keys_and_values_group_by_group(stand_in: Callable, groups: int) -> None:
    few, all_heads = stand_in(num_key_value_heads=groups), stand_in(num_key_value_heads=4)
    repeated = {
        name: tensor.unflatten(0, (groups, HEAD)).repeat_interleave(4 // groups, dim=0).flatten(0, 1)
        if "k_proj" in name or "v_proj" in name
        else tensor
        for name, tensor in few.state_dict().items()
    }
    all_heads.load_state_dict(repeated)
    assert distance(run(few, stream(0)), run(all_heads, stream(0))) < SAME


@pytest.mark.parametrize("shown", [False, True])
def test_a_padded_prompt_gives_its_tokens_what_they_get_alone(stand_in: Callable, shown: bool) -> None:
    import torch

    model, ids = stand_in(), stream(0)
    keep = torch.ones(2, N, dtype=torch.bool)
    keep[0, :3] = False
    positions = (keep.long().cumsum(-1) - 1).masked_fill(~keep, 1)
    allowed = keep[:, None, :, None] & keep[:, None, None, :]
    # On the path that adds the mask only an additive one hides, and a row of -inf has no softmax.
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -1e9) if shown else allowed
    padded = run(model, ids, mask, positions, output_attentions=shown)
    assert padded.isfinite().all()
    assert distance(padded[:1, 3:], run(model, ids[:1, 3:])) < SAME
    assert distance(padded[1:], run(model, ids[1:])) < SAME


def test_keys_and_values_can_be_kept(stand_in: Callable) -> None:
    import torch
    from transformers import DynamicCache

    model, ids = stand_in(), stream(0)
    whole, kept = run(model, ids, additive(causal())), DynamicCache()
    run(model, ids[:, :10], additive(causal()[:, :, :10, :10]), past_key_values=kept)
    assert kept.get_seq_length() == 10
    rest = run(model, ids[:, 10:], additive(causal()[:, :, 10:]), past_key_values=kept)
    assert distance(rest, whole[:, 10:]) < SAME
    with torch.no_grad():
        output = model.model(ids, return_dict=True)
    assert output.past_key_values.get_seq_length() == N


def test_norms_answer_in_the_dtype_they_get(stand_in: Callable) -> None:
    import torch

    norm = stand_in().to(torch.bfloat16).model.norm
    assert norm(torch.ones(1, 1, WIDTH, dtype=torch.bfloat16)).dtype == torch.bfloat16
    logits = run(stand_in().double(), stream(0))
    assert logits.dtype == torch.float64
    assert distance(logits, run(stand_in(), stream(0))) < SAME


def test_every_weight_matters(stand_in: Callable) -> None:
    model, ids = stand_in(), stream(0, masked=0.5)
    before = run(model, ids)
    assert before.std() > 0.5
    for name, parameter in model.named_parameters():
        kept = parameter.data.clone()
        parameter.data.zero_()
        # A bias of keys adds the same to all scores of a query, but for the rotation.
        assert distance(run(model, ids), before) > 100 * SAME, name
        parameter.data.copy_(kept)
