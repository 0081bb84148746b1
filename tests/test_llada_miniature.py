"""The LLaDA miniature against the fact sheet of the architecture: names, shapes, oddities, structural identities."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.llada import SPEC

FIXTURE = checkpoint.fixture_folder("llada")
N, LAYERS, WIDTH, HIDDEN, VOCABULARY, MASK = 24, 2, 32, 40, 67, 64
SAME = 1e-5
"""fp32 noise of the miniature's logits, whose spread is about 1, with room for another order of summation."""
LOWEST = -3.4028234663852886e38


@pytest.fixture
def stand_in() -> Callable[..., Any]:
    """`stand_in(n_kv_heads=2)`: the remote class with that config, filled from the drawn weights."""
    from conformance.subject import Boot

    def build(**fields: Any) -> Any:
        return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True).reference

    return build


def stream(seed: int, length: int = N, *, masked: float = 0.0) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(MASK, (2, length), generator=generator)
    return ids.masked_fill(torch.rand((2, length), generator=generator) < masked, MASK)


def run(model: Any, ids: Any, **arguments: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(ids, **arguments).logits


def distance(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def keys(hidden: slice) -> Any:
    """An attention mask of both rows that hides some tokens."""
    import torch

    mask = torch.ones(2, N, dtype=torch.long)
    mask[:, hidden] = 0
    return mask


def block_causal(size: int) -> Any:
    """Who sees whom, bool `1 1 query key`."""
    import torch

    block = torch.arange(N) // size
    return (block[:, None] >= block)[None, None]


def additive(allowed: Any, lowest: float) -> Any:
    import torch

    return torch.zeros(allowed.shape).masked_fill(~allowed, lowest)


def expected_shapes(groups: int = 4) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.transformer.wte.weight": (VOCABULARY, WIDTH),
        "model.transformer.ln_f.weight": (WIDTH,),
        "model.transformer.ff_out.weight": (VOCABULARY, WIDTH),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"model.transformer.blocks.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (WIDTH,),
                "q_proj": (WIDTH, WIDTH),
                "k_proj": (groups * 8, WIDTH),
                "v_proj": (groups * 8, WIDTH),
                "attn_out": (WIDTH, WIDTH),
                "ff_norm": (WIDTH,),
                "ff_proj": (HIDDEN, WIDTH),
                "up_proj": (HIDDEN, WIDTH),
                "ff_out": (WIDTH, HIDDEN),
            }.items()
        }
    return shapes


@pytest.mark.parametrize("groups", [4, 2, 1])
def test_tensors_have_the_released_names_and_shapes(groups: int) -> None:
    folder = checkpoint.materialise(FIXTURE, SPEC, {"n_kv_heads": groups})
    assert checkpoint.shapes(folder) == expected_shapes(groups)


def test_modules_and_arguments_have_the_released_names(stand_in: Callable) -> None:
    model = stand_in()
    block = model.model.transformer.blocks[0]
    assert [type(part).__name__ for part in (model, model.model, block, block.rotary_emb, block.attn_norm)] == [
        "LLaDAModelLM",
        "LLaDAModel",
        "LLaDALlamaBlock",
        "RotaryEmbedding",
        "RMSLayerNorm",
    ]
    assert [base.__name__ for base in type(block).__mro__[:2]] == ["LLaDALlamaBlock", "LLaDABlock"]
    assert set(dict(model.model.transformer.named_children())) == {"wte", "emb_drop", "ln_f", "blocks", "ff_out"}
    assert set(dict(block.named_children())) == {
        *("dropout", "act", "attn_norm", "ff_norm", "q_proj", "k_proj", "v_proj", "attn_out"),
        *("ff_proj", "up_proj", "ff_out", "rotary_emb"),
    }
    assert block.q_norm is None
    assert block.k_norm is None
    arguments = {
        model.forward: "input_ids inputs_embeds attention_mask attention_bias past_key_values labels use_cache "
        "output_attentions output_hidden_states return_dict cache_position",
        model.tie_weights: "",
        model.model.forward: "input_ids input_embeddings attention_mask attention_bias past_key_values use_cache "
        "last_logits_only output_hidden_states",
        model.model.get_bidirectional_attention_bias: "seq_len device",
        block.forward: "x attention_bias layer_past use_cache",
        block.attention: "q k v attention_bias layer_past use_cache",
        block._scaled_dot_product_attention: "q k v attn_mask dropout_p is_causal",
        block._cast_attn_bias: "bias input_dtype",
        block.rotary_emb.forward: "q k",
    }
    for method, names in arguments.items():
        assert " ".join(inspect.signature(method).parameters) == names
    assert type(model).base_model_prefix == "model"
    assert type(model).config_class.model_type == "llada"


def test_several_blocks_under_one_name_are_the_same_model_under_other_names(stand_in: Callable) -> None:
    model, grouped = stand_in(n_layers=4), stand_in(n_layers=4, block_group_size=2)
    assert "blocks" not in grouped.model.transformer
    state = {}
    for name, tensor in model.state_dict().items():
        *_, rest = name.split("blocks.")
        layer, _, leaf = rest.partition(".")
        where = f"block_groups.{int(layer) // 2}.{int(layer) % 2}.{leaf}" if layer.isdigit() else None
        state[name if where is None else f"model.transformer.{where}"] = tensor
    grouped.load_state_dict(state)
    ids = stream(0, masked=0.5)
    assert distance(run(grouped, ids), run(model, ids)) == 0


MENDED = "LLaDAModelLM.all_tied_weights_keys = {}"


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForCausalLM"])
@pytest.mark.parametrize(
    ("line", "error", "told"),
    [("", AttributeError, "all_tied_weights_keys"), (MENDED, TypeError, "tie_weights")],
    ids=["as released", "half mended"],
)
def test_plain_loading_fails_as_the_released_code_does(
    auto: str, line: str, error: type[Exception], told: str, tmp_path: Path
) -> None:
    import transformers

    # Of other content and name, so that it becomes a class which no one has mended in this process.
    name = f"plain_{auto}_{len(line)}"
    folder = Path(shutil.copytree(checkpoint.materialise(FIXTURE, SPEC), tmp_path / name))
    with (folder / "modeling_llada.py").open("a") as file:
        file.write(f"\n# {name}\n{line}\n")
    with pytest.raises(error, match=told):
        getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True)


def test_the_config_drops_use_cache_and_the_forward_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = checkpoint.construct(FIXTURE, SPEC, checkpoint.read_config(FIXTURE, SPEC))
    assert "use_cache" not in vars(model.config)
    assert model(stream(0)).logits.shape == (2, N, VOCABULARY)
    # Without what the spec's shim has put there.
    monkeypatch.delattr(type(model.config), "use_cache")
    with pytest.raises(AttributeError, match="use_cache"):
        model(stream(0))
    assert model(stream(0), use_cache=False).logits.shape == (2, N, VOCABULARY)
    with pytest.raises(AssertionError, match="use_cache"):
        model(stream(0), use_cache=True)


def test_as_released_it_is_built_without_storage_and_switches_a_kernel_off() -> None:
    import torch

    spec = replace(SPEC, overrides={})
    kept = torch.backends.cuda.mem_efficient_sdp_enabled()
    try:
        torch.backends.cuda.enable_mem_efficient_sdp(True)
        model = checkpoint.construct(FIXTURE, spec, checkpoint.read_config(FIXTURE, spec))
        assert not torch.backends.cuda.mem_efficient_sdp_enabled()
    finally:
        torch.backends.cuda.enable_mem_efficient_sdp(kept)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert list(model.buffers()) == []


def test_rotary_tables_are_one_dict_of_all_layers_filled_by_the_first_forward(stand_in: Callable) -> None:
    model = stand_in()
    one, other = (block.rotary_emb.tables for block in model.model.transformer.blocks)
    assert one is other
    assert isinstance(one, dict)
    assert type(one).__name__ == "BufferCache"
    assert len(one) == 0
    run(model, stream(0, 10))
    assert {tuple(table.shape) for table in one.values()} == {(1, 1, 10, 8)}
    run(model, stream(0, 20))
    assert {tuple(table.shape) for table in one.values()} == {(1, 1, 20, 8)}
    assert list(model.buffers()) == []


def test_every_weight_carries_signal(stand_in: Callable) -> None:
    model, ids = stand_in(), stream(0, masked=0.5)
    assert run(model, ids).std() > 0.5
    for name, parameter in model.named_parameters():
        kept, before = parameter.data.clone(), run(model, ids)
        parameter.data.zero_()
        assert distance(run(model, ids), before) > 100 * SAME, name
        parameter.data.copy_(kept)


def test_forward_oddities(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0)
    with torch.no_grad():
        whole = model(ids, output_hidden_states=True)
    assert [tuple(state.shape) for state in whole.hidden_states] == [(2, N, WIDTH)] * (LAYERS + 1)
    # The last state is the one that the unembedding gets, behind the norm.
    parts = model.model.transformer.requires_grad_(False)
    assert distance(parts.ff_out(whole.hidden_states[-1]), whole.logits) == 0
    assert distance(parts.wte(ids), whole.hidden_states[0]) == 0
    assert whole.past_key_values is None
    plain = model(ids, return_dict=False)
    assert isinstance(plain, tuple)
    assert distance(plain[0].detach(), whole.logits) == 0
    with pytest.warns(UserWarning, match="labels"):
        assert model(ids, labels=ids).loss is None
    with pytest.raises(ValueError, match="output_attentions"):
        model(ids, output_attentions=True)
    with pytest.raises(AssertionError, match="past_key_values"):
        model(ids, past_key_values=[])
    with pytest.raises(TypeError):
        model(ids, position_ids=torch.arange(N))
    assert distance(run(model, None, inputs_embeds=model.model.transformer.wte(ids)), whole.logits) == 0
    last = model.model(ids, last_logits_only=True).logits
    assert distance(last, whole.logits[:, -1:]) < SAME


def test_weights_are_tied_where_the_config_says_so(stand_in: Callable) -> None:
    model, ids = stand_in(weight_tying=True), stream(0)
    assert "ff_out" not in model.model.transformer
    before = run(model, ids)
    model.tie_weights()
    assert model.model.transformer.ff_out is model.model.transformer.wte
    assert distance(run(model, ids), before) == 0


def test_a_stream_without_positions_would_be_a_set(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0, masked=0.3)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert distance(run(model, ids[:, order]), run(model, ids)[:, order]) > 100 * SAME
    for block in model.model.transformer.blocks:
        block.rotary_emb.forward = lambda q, k: (q, k)
    assert distance(run(model, ids[:, order]), run(model, ids)[:, order]) < SAME


def test_positions_are_relative_and_the_far_end_is_seen_from_the_start(stand_in: Callable) -> None:
    import torch

    model = stand_in()
    rotary = model.model.transformer.blocks[0].rotary_emb
    x = torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(0)).expand(1, 1, N, 8)
    q, k = rotary(x, x)
    products = (q @ k.mT)[0, 0]
    for apart in range(N):
        line = products.diagonal(apart)
        assert float(line.max() - line.min()) < 1e-4
    ids = stream(0)
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % MASK
    assert distance(run(model, ids)[:, 0], run(model, other)[:, 0]) > 100 * SAME


@pytest.mark.parametrize("groups", [1, 2])
def test_heads_in_groups_are_heads_of_their_own_with_equal_keys_and_values(stand_in: Callable, groups: int) -> None:
    model, wide, ids = stand_in(n_kv_heads=groups), stand_in(), stream(0, masked=0.5)
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            state[name] = tensor.unflatten(0, (groups, 8)).repeat_interleave(4 // groups, dim=0).flatten(0, 1)
    wide.load_state_dict(state)
    assert distance(run(model, ids), run(wide, ids)) < SAME


def test_what_is_computed_wide_stays_narrow_outside(stand_in: Callable) -> None:
    import torch

    model = stand_in().bfloat16()
    block = model.model.transformer.blocks[0]
    assert block.attn_norm(torch.ones(1, 1, WIDTH, dtype=torch.bfloat16)).dtype == torch.bfloat16
    q, k = block.rotary_emb(*torch.ones(2, 1, 4, N, 8, dtype=torch.bfloat16))
    assert q.dtype == k.dtype == torch.bfloat16
    assert block.rotary_emb.tables["sin"].dtype == torch.float32
    assert run(model, stream(0)).isfinite().all()


@pytest.mark.parametrize("hidden", [slice(0, 3), slice(N - 3, N), slice(10, 11)], ids=["left", "right", "middle"])
def test_of_the_second_generation_nobody_sees_a_token_that_the_mask_hides(stand_in: Callable, hidden: slice) -> None:
    model, ids, mask = stand_in(), stream(0), keys(hidden)
    other = ids.clone()
    other[:, hidden] = stream(1)[:, hidden]
    shown = mask.bool()
    before, after = run(model, ids, attention_mask=mask), run(model, other, attention_mask=mask)
    assert distance(before[shown], after[shown]) == 0
    assert distance(run(model, ids)[shown], before[shown]) > 100 * SAME
    # What is hidden still has logits of its own.
    assert distance(before[~shown], after[~shown]) > 100 * SAME
    assert before.isfinite().all()
    assert run(model, ids, attention_mask=mask * 0).isfinite().all()


def test_tokens_behind_the_end_are_as_if_they_were_not_there(stand_in: Callable) -> None:
    model, ids = stand_in(), stream(0)
    mask = keys(slice(N - 5, N))
    assert distance(run(model, ids, attention_mask=mask)[:, :-5], run(model, ids[:, :-5])) < SAME
    # In front of the text they still take positions, and what counts is how far apart tokens stand.
    mask = keys(slice(0, 5))
    assert distance(run(model, ids, attention_mask=mask)[:, 5:], run(model, ids[:, 5:])) < SAME


def test_a_mask_without_a_zero_changes_nothing(stand_in: Callable) -> None:
    for revision in "AB":
        model, ids = stand_in(stand_in_revision=revision), stream(0)
        assert distance(run(model, ids, attention_mask=keys(slice(0, 0))), run(model, ids)) == 0


@pytest.mark.parametrize("size", [1, 5, N])
def test_a_bias_is_taken_as_bools_bytes_or_numbers(stand_in: Callable, size: int) -> None:
    import torch

    model, ids, allowed = stand_in(), stream(0, masked=0.5), block_causal(size)
    want = run(model, ids, attention_bias=allowed)
    assert distance(run(model, ids, attention_bias=allowed.to(torch.int8)), want) == 0
    for lowest in (LOWEST, -torch.inf):
        assert distance(run(model, ids, attention_bias=additive(allowed, lowest)), want) < SAME
    # As released: 0 and 1 as floats are numbers that are added.
    ones = run(model, ids, attention_bias=allowed.float())
    assert (distance(ones, want) > 100 * SAME) is (size < N)
    for start in range(0, N, size):
        cut = slice(0, start + size)
        alone = run(model, ids[:, cut], attention_bias=allowed[:, :, cut, cut])
        assert distance(alone, want[:, cut]) < SAME


def test_a_mask_and_a_bias_both_hide(stand_in: Callable) -> None:
    model, ids, mask, allowed = stand_in(), stream(0), keys(slice(4, 7)), block_causal(4)
    both = allowed & mask.bool()[:, None, None]
    want = run(model, ids, attention_bias=additive(both, LOWEST))
    got = run(model, ids, attention_mask=mask, attention_bias=allowed)
    assert got.isfinite().all()
    assert distance(got, want) < SAME


@pytest.mark.parametrize("arguments", ["attention_mask", "attention_bias"])
def test_the_first_generation_computes_a_mask_and_ignores_it(stand_in: Callable, arguments: str) -> None:
    model, later, ids = stand_in(stand_in_revision="A"), stand_in(), stream(0, masked=0.5)
    given = {arguments: keys(slice(N - 5, N)) if arguments == "attention_mask" else block_causal(5)}
    assert distance(run(model, ids), run(later, ids)) == 0
    assert distance(run(model, ids, **given), run(model, ids)) == 0
    assert distance(run(later, ids, **given), run(later, ids)) > 100 * SAME
    shown = []
    block = model.model.transformer.blocks[0]
    handed = block.register_forward_pre_hook(
        lambda _, __, kwargs: shown.append(kwargs["attention_bias"]), with_kwargs=True
    )
    run(model, ids, **given)
    handed.remove()
    (bias,) = shown
    causal = bool((bias[..., 0, 1:] < -1e30).all())
    assert causal is (arguments == "attention_mask")


def test_nothing_in_it_is_a_field_that_someone_could_take_for_released() -> None:
    config = checkpoint.own_fields(FIXTURE)
    assert config["stand_in_revision"] == "B"
    assert config["init_device"] == "meta"
    assert len({config[name] for name in ("mask_token_id", "eos_token_id")}) == 2


def test_the_tokenizer_names_the_special_ids() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FIXTURE)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (61, 62, 62)
    assert tokenizer.convert_tokens_to_ids(["<|mdm_mask|>", "<|eot_id|>"]) == [MASK, 65]
    assert tokenizer.decode(tokenizer("abc")["input_ids"]) == "abc"
    assert len(tokenizer) == VOCABULARY
