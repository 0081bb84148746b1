"""The LLaDA2-MoE miniature against the fact sheet of the architecture: names, shapes, oddities, identities."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.llada2_moe import SPEC

FIXTURE = checkpoint.fixture_folder("llada2_moe")
N, WIDTH, HEADS, GROUPS, HEAD, DENSE, EXPERT, EXPERTS, VOCABULARY = 24, 32, 4, 2, 8, 40, 12, 8, 67
MASK = VOCABULARY - 1
SAME = 1e-5
"""fp32 noise of the miniature's logits, whose spread is about 1, with room for another order of summation."""


@pytest.fixture
def stand_in() -> Callable[..., Any]:
    """`stand_in(n_group=2)`: the remote class with that config, filled from the drawn weights."""
    from conformance.subject import Boot

    def build(**fields: Any) -> Any:
        return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True).reference

    return build


@pytest.fixture
def miniature_of() -> Callable[..., Path]:
    return lambda **fields: checkpoint.materialise(FIXTURE, SPEC, fields)


def stream(seed: int, length: int = N, *, masked: float = 0.0) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(MASK, (2, length), generator=generator)
    return ids.masked_fill(torch.rand((2, length), generator=generator) < masked, MASK)


def everyone(length: int = N) -> Any:
    import torch

    return torch.zeros(2, 1, length, length)


def block_causal(size: int = 4) -> Any:
    """Who sees whom, bool `batch 1 query key`."""
    import torch

    block = torch.arange(N) // size
    return (block[:, None] >= block).expand(2, 1, -1, -1)


def run(model: Any, ids: Any, mask: Any = None, **arguments: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(ids, attention_mask=everyone(ids.shape[1]) if mask is None else mask, **arguments).logits


def distance(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def expected_shapes() -> dict[str, tuple[int, ...]]:
    joint = (HEADS + 2 * GROUPS) * HEAD

    def gated(width: int) -> dict[str, tuple[int, ...]]:
        return {"gate_proj": (width, WIDTH), "up_proj": (width, WIDTH), "down_proj": (WIDTH, width)}

    attention = {
        "query_key_value": (joint, WIDTH),
        "query_layernorm": (HEAD,),
        "key_layernorm": (HEAD,),
        "dense": (WIDTH, HEADS * HEAD),
    }
    layer = {f"attention.{name}": shape for name, shape in attention.items()}
    layer |= {"input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,)}
    sparse = {"gate": (EXPERTS, WIDTH), **{f"shared_experts.{name}": shape for name, shape in gated(EXPERT).items()}}
    for number in range(EXPERTS):
        sparse |= {f"experts.{number}.{name}": shape for name, shape in gated(EXPERT).items()}
    named = {"model.word_embeddings": (VOCABULARY, WIDTH), "model.norm": (WIDTH,), "lm_head": (VOCABULARY, WIDTH)}
    for number, mlp in enumerate((gated(DENSE), sparse)):
        named |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
        named |= {f"model.layers.{number}.mlp.{name}": shape for name, shape in mlp.items()}
    return {f"{name}.weight": s for name, s in named.items()} | {"model.layers.1.mlp.gate.expert_bias": (EXPERTS,)}


def test_tensors_have_the_released_names_and_shapes(miniature_of: Callable[..., Path]) -> None:
    assert checkpoint.shapes(miniature_of()) == expected_shapes()


def test_the_bias_of_a_router_is_a_saved_buffer_and_the_rotary_table_an_unsaved_one(stand_in: Callable) -> None:
    model = stand_in()
    buffers, saved = dict(model.named_buffers()), model.state_dict()
    assert {name: name in saved for name in buffers} == {
        "model.layers.1.mlp.gate.expert_bias": True,
        "model.rotary_emb.inv_freq": False,
    }
    assert buffers["model.layers.1.mlp.gate.expert_bias"].abs().min() > 0
    # Half of a head's channels are turned, by angles in twos.
    table = buffers["model.rotary_emb.inv_freq"]
    assert table.tolist() == pytest.approx([1.0, 600_000**-0.5], rel=1e-6)
    assert len(table) == HEAD * 0.5 / 2


def test_modules_and_arguments_have_the_released_names(stand_in: Callable) -> None:
    model = stand_in()
    inner, (dense, sparse) = model.model, model.model.layers
    parts = (model, inner, inner.rotary_emb, dense, dense.attention, dense.mlp, sparse.mlp, sparse.mlp.gate, inner.norm)
    assert [type(part).__name__.removeprefix("LLaDA2Moe") for part in parts] == [
        *("ModelLM", "Model", "RotaryEmbedding", "DecoderLayer", "Attention", "MLP", "SparseMoeBlock", "Gate"),
        "RMSNorm",
    ]
    assert list(dict(inner.named_children())) == ["word_embeddings", "layers", "norm", "rotary_emb"]
    assert set(dict(dense.named_children())) == {"attention", "mlp", "input_layernorm", "post_attention_layernorm"}
    assert set(dict(sparse.mlp.named_children())) == {"experts", "gate", "shared_experts"}
    wanted = {
        model.forward: "input_ids attention_mask position_ids past_key_values inputs_embeds labels use_cache "
        "output_attentions output_hidden_states output_router_logits return_dict kwargs",
        dense.attention.forward: "hidden_states attention_mask position_ids past_key_value output_attentions "
        "use_cache position_embeddings kwargs",
        sparse.mlp.forward: "hidden_states",
        sparse.mlp.moe_infer: "x topk_ids topk_weight",
        type(inner.rotary_emb): "config device",
        model._init_weights: "module",
        model.generate: "inputs temperature block_length steps gen_length top_p top_k eos_early_stop minimal_topk "
        "threshold eos_id mask_id",
    }
    for function, names in wanted.items():
        assert list(inspect.signature(function).parameters) == names.split(), function


def test_class_defaults_are_those_of_another_model(stand_in: Callable) -> None:
    config = type(stand_in().config)()
    told = (config.rms_norm_eps, config.use_bias, config.first_k_dense_replace, config.num_key_value_heads)
    assert (*told, config.pad_token_id, config.use_qk_norm) == (1e-5, True, 0, 0, 126081, True)
    assert "use_qk_norm" not in checkpoint.read_config(FIXTURE, SPEC)


def test_transformers_5_cannot_construct_it_unaided(miniature_of: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    # Of other content, so that it becomes a module of its own, which nobody has mended in this process.
    folder = Path(shutil.copytree(miniature_of(), tmp_path / "other"))
    with (folder / "modeling_llada2_moe.py").open("a") as file:
        file.write("\n# another file\n")
    with pytest.raises(KeyError, match="default"):
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


def test_initialising_leaves_the_rotary_table_as_it_is(stand_in: Callable) -> None:
    import torch

    model = stand_in()
    rotary = model.model.rotary_emb
    rotary.inv_freq.fill_(7.0)
    model._init_weights(rotary)
    assert rotary.inv_freq.eq(7.0).all()
    with torch.no_grad():
        model._init_weights(model.lm_head)
    assert model.lm_head.weight.std() < 0.03


def test_every_tensor_of_the_drawn_weights_carries_signal(stand_in: Callable) -> None:
    model, ids = stand_in(), stream(0)
    before = run(model, ids)
    assert before.std() > 0.5
    for name, tensor in model.state_dict().items():
        kept = tensor.clone()
        tensor.zero_()
        assert distance(run(model, ids), before) > 100 * SAME, name
        tensor.copy_(kept)


def test_a_mask_is_mandatory_and_has_queries(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0)
    with pytest.raises(AttributeError):
        model(ids)
    for shape in ((2, N), (2, N, N), (2, HEADS, N, N), (1, 1, N, N), (2, 1, 1, N)):
        with pytest.raises(ValueError, match="attention_mask"):
            model(ids, attention_mask=torch.ones(shape))


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_a_float_mask_is_added_to_the_scores(stand_in: Callable, kernel: str) -> None:
    import torch

    model, ids, allowed = stand_in(), stream(0), block_causal()
    model.config._attn_implementation = kernel
    plain, logged = run(model, ids), run(model, ids, allowed.float().log())
    assert distance(run(model, ids, torch.ones(2, 1, N, N)), plain) < SAME
    assert distance(run(model, ids, allowed.float()), logged) > 100 * SAME
    hidden = ids.clone()
    hidden[:, 4:] = stream(1)[:, 4:]
    assert distance(run(model, hidden, allowed.float().log())[:, :4], logged[:, :4]) < SAME
    assert distance(run(model, hidden, allowed.float())[:, :4], run(model, ids, allowed.float())[:, :4]) > 100 * SAME
    # As released: a bool is kept or not where attention is fused, and added like any other number where it is not.
    like = logged if kernel == "sdpa" else run(model, ids, allowed.float())
    assert distance(run(model, ids, allowed), like) < SAME


def test_fused_attention_in_fp32_does_not_take_the_sampler_s_mask(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0)
    mask = everyone().to(torch.bfloat16)
    model.config._attn_implementation = "sdpa"
    with pytest.raises(RuntimeError, match="dtype"):
        run(model, ids, mask)
    model.config._attn_implementation = "eager"
    assert distance(run(model, ids, mask), run(model, ids)) == 0


def test_only_differences_of_positions_count_and_without_them_order_does_not(stand_in: Callable) -> None:
    import torch

    model, ids, positions = stand_in(), stream(0), torch.arange(N)[None]
    plain = run(model, ids)
    assert distance(run(model, ids, position_ids=positions), plain) == 0
    assert distance(run(model, ids, position_ids=positions + 5), plain) < SAME
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    assert distance(run(model, ids[:, order]), plain[:, order]) > 100 * SAME
    nowhere = torch.zeros_like(positions)
    assert (
        distance(run(model, ids[:, order], position_ids=nowhere), run(model, ids, position_ids=nowhere)[:, order])
        < SAME
    )
    # Whoever carries his position with him is where he was.
    assert distance(run(model, ids[:, order], position_ids=positions[:, order]), plain[:, order]) < SAME


def test_shared_heads_of_keys_are_those_of_a_model_that_has_each_twice(stand_in: Callable) -> None:
    import torch

    few, many, ids = stand_in(), stand_in(num_key_value_heads=HEADS), stream(0)
    weights = few.state_dict()
    for layer in range(2):
        name = f"model.layers.{layer}.attention.query_key_value.weight"
        q, k, v = weights[name].unflatten(0, (-1, HEAD)).split((HEADS, GROUPS, GROUPS))
        weights[name] = torch.cat((q, k.repeat_interleave(2, dim=0), v.repeat_interleave(2, dim=0))).flatten(0, 1)
    many.load_state_dict(weights)
    assert distance(run(many, ids), run(few, ids)) < SAME


def test_norms_of_queries_and_keys_forget_how_long_they_are(stand_in: Callable) -> None:
    model, ids = stand_in(), stream(0)
    before = run(model, ids)
    joint = model.model.layers[0].attention.query_key_value.weight.data
    joint[: (HEADS + GROUPS) * HEAD] *= 3
    assert distance(run(model, ids), before) < SAME
    joint[(HEADS + GROUPS) * HEAD :] *= 3
    assert distance(run(model, ids), before) > 100 * SAME


def hidden(seed: int = 0) -> Any:
    import torch

    return torch.randn(2, N, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_a_router_answers_with_choice_weights_and_logits(stand_in: Callable) -> None:
    import torch

    gate, x = stand_in().model.layers[1].mlp.gate, hidden()
    chosen, weights, logits = gate(x)
    assert (tuple(chosen.shape), tuple(weights.shape), tuple(logits.shape)) == (
        (2 * N, 2),
        (2 * N, 2),
        (2 * N, EXPERTS),
    )
    assert logits.equal(x.flatten(0, 1) @ gate.weight.T)
    assert weights.sum(dim=-1).sub(2.5).abs().max() < SAME
    scores = logits.sigmoid().gather(1, chosen)
    assert distance(weights, 2.5 * scores / scores.sum(dim=-1, keepdim=True)) < SAME
    assert gate.to(torch.bfloat16)(x.to(torch.bfloat16))[2].dtype == torch.float32


def test_experts_are_chosen_from_the_best_groups_by_score_and_bias(stand_in: Callable) -> None:
    gate = stand_in().model.layers[1].mlp.gate
    chosen, _, logits = gate(hidden())
    limited = 0
    for choice, row in zip(chosen.tolist(), logits, strict=True):
        worth = (row.sigmoid() + gate.expert_bias).tolist()
        pairs = sorted(range(4), key=lambda group: sum(worth[2 * group : 2 * group + 2]), reverse=True)[:2]
        open_ = [expert for group in pairs for expert in (2 * group, 2 * group + 1)]
        assert set(choice) == set(sorted(open_, key=worth.__getitem__, reverse=True)[:2])
        limited += set(choice) != set(sorted(range(EXPERTS), key=worth.__getitem__, reverse=True)[:2])
    assert limited > 0


def test_a_bias_chooses_and_does_not_weigh(stand_in: Callable) -> None:
    gate, x = stand_in().model.layers[1].mlp.gate, hidden()
    gate.expert_bias.zero_()
    gate.expert_bias[4:6] = 10
    chosen, weights, logits = gate(x)
    assert chosen.sort(dim=-1).values.eq(chosen.new_tensor([4, 5])).all()
    scores = logits.sigmoid().gather(1, chosen)
    assert distance(weights, 2.5 * scores / scores.sum(dim=-1, keepdim=True)) < SAME


def test_a_sparse_block_is_its_experts_by_weight_and_the_shared_ones(stand_in: Callable) -> None:
    import torch

    mlp, x = stand_in().model.layers[1].mlp, hidden()
    with torch.no_grad():
        out, (logits, chosen) = mlp(x)
        _, weights, _ = mlp.gate(x)
        weights = weights.view(2, N, 2)
        want = mlp.shared_experts(x)
        for row in range(2):
            for token in range(N):
                for expert, weight in zip(chosen[row, token].tolist(), weights[row, token], strict=True):
                    want[row, token] += weight * mlp.experts[expert](x[row, token])
    assert distance(out, want) < SAME
    assert (tuple(logits.shape), tuple(chosen.shape)) == ((2, N, EXPERTS), (2, N, 2))


def test_experts_have_a_gradient_in_training_mode_only(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0)
    logits, gradients = {}, {}
    for training in (False, True):
        model.train(training).zero_grad()
        logits[training] = model(ids, attention_mask=everyone()).logits
        logits[training].square().mean().backward()
        gradients[training] = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert logits[True].equal(logits[False])
    missing = gradients[True] - gradients[False]
    assert gradients[True] == {name for name, _ in model.named_parameters()}
    assert missing == {n for n in gradients[True] if ".experts." in n or n.endswith("gate.weight")}
    assert torch.is_grad_enabled()


def test_what_a_forward_returns(stand_in: Callable) -> None:
    import torch

    model, ids, mask = stand_in(), stream(0), everyone()
    with torch.no_grad():
        out = model(ids, mask, output_hidden_states=True, output_attentions=True, output_router_logits=True)
        logits, states, *_ = model(ids, mask, output_hidden_states=True, return_dict=False)
    assert type(out).__name__ == "MoeCausalLMOutputWithPast"
    assert [tuple(state.shape) for state in out.hidden_states] == [(2, N, WIDTH)] * 3
    assert distance(model.lm_head(out.hidden_states[-1]), out.logits) == 0
    assert [tuple(pattern.shape) for pattern in out.attentions] == [(2, HEADS, N, N)] * 2
    assert [tuple(part.shape) for part in out.router_logits[0]] == [(2, N, EXPERTS), (2, N, 2)]
    assert len(out.router_logits) == 1
    assert out.loss is None
    assert out.past_key_values is None
    assert logits.equal(out.logits)
    assert len(states) == 3


def test_logits_are_fp32_in_any_precision(stand_in: Callable) -> None:
    import torch

    model = stand_in().to(torch.bfloat16)
    assert run(model, stream(0), everyone().to(torch.bfloat16)).dtype == torch.float32


def test_labels_give_a_plain_mean_at_the_same_positions(stand_in: Callable) -> None:
    import torch

    model, ids, labels = stand_in(), stream(0, masked=0.5), stream(1)
    with torch.no_grad():
        out = model(ids, attention_mask=everyone(), labels=labels)
    chances = out.logits.log_softmax(dim=-1).gather(-1, labels[..., None])
    assert distance(out.loss, -chances.mean()) < SAME


def test_a_cache_is_handed_back_and_changes_nothing(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0)
    with torch.no_grad():
        out = model(ids, attention_mask=everyone(), use_cache=True)
    assert out.past_key_values.get_seq_length() == N
    assert out.logits.equal(run(model, ids))


@pytest.mark.parametrize(
    ("fields", "without"),
    [
        ({"use_qk_norm": False}, "layernorm"),
        ({"num_shared_experts": 0}, "shared_experts"),
        ({"first_k_dense_replace": 2}, "experts"),
    ],
    ids=str,
)
def test_what_a_config_leaves_out_is_absent(stand_in: Callable, fields: dict[str, Any], without: str) -> None:
    model = stand_in(**fields)
    assert not [name for name, _ in model.model.layers[1].attention.named_parameters() if without in name]
    assert not [name for name, _ in model.model.layers[1].mlp.named_parameters() if without in name]
    assert run(model, stream(0)).std() > 0.5
