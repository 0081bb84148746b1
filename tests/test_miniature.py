"""The BD3LM miniature against the fact sheet of the architecture: names, shapes, oddities, structural identities."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.bd3lm import SPEC

FIXTURE = checkpoint.fixture_folder("bd3lm")
N, BLOCK, LAYERS, WIDTH, VOCABULARY, COND = 21, 3, 2, 24, 67, 10
SDPA = {"attn_backend": "sdpa"}
SAME = 1e-5
"""fp32 noise of the miniature's logits, whose spread is about 1, with room for another order of summation."""


@pytest.fixture
def stand_in() -> Callable[..., Any]:
    """`stand_in(block_size=1)`: the remote class with that config, filled from the drawn weights."""
    from conformance.subject import Boot

    def build(**fields: Any) -> Any:
        return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, {**SDPA, **fields}), trusted=True).reference

    return build


def stream(seed: int, length: int, *, masked: float = 0.0) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY - 1, (2, length), generator=generator)
    return ids.masked_fill(torch.rand((2, length), generator=generator) < masked, VOCABULARY - 1)


def sigma() -> Any:
    import torch

    return torch.tensor([0.3, 4.0])


def run(model: Any, ids: Any, **arguments: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(ids, sigma(), **arguments)


def distance(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def expected_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "sampling_eps_min": (),
        "sampling_eps_max": (),
        "backbone.vocab_embed.embedding": (VOCABULARY, WIDTH),
        "backbone.sigma_map.mlp.0.weight": (COND, 256),
        "backbone.sigma_map.mlp.0.bias": (COND,),
        "backbone.sigma_map.mlp.2.weight": (COND, COND),
        "backbone.sigma_map.mlp.2.bias": (COND,),
        "backbone.rotary_emb.inv_freq": (3,),
        "backbone.output_layer.norm_final.weight": (WIDTH,),
        "backbone.output_layer.linear.weight": (VOCABULARY, WIDTH),
        "backbone.output_layer.linear.bias": (VOCABULARY,),
        "backbone.output_layer.adaLN_modulation.weight": (2 * WIDTH, COND),
        "backbone.output_layer.adaLN_modulation.bias": (2 * WIDTH,),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"backbone.blocks.{layer}.{name}": shape
            for name, shape in {
                "norm1.weight": (WIDTH,),
                "norm2.weight": (WIDTH,),
                "attn_qkv.weight": (3 * WIDTH, WIDTH),
                "attn_out.weight": (WIDTH, WIDTH),
                "mlp.0.weight": (4 * WIDTH, WIDTH),
                "mlp.0.bias": (4 * WIDTH,),
                "mlp.2.weight": (WIDTH, 4 * WIDTH),
                "mlp.2.bias": (WIDTH,),
                "adaLN_modulation.weight": (6 * WIDTH, COND),
                "adaLN_modulation.bias": (6 * WIDTH,),
            }.items()
        }
    return shapes


def test_tensors_have_the_released_names_and_shapes(miniature: Path) -> None:
    assert checkpoint.shapes(miniature) == expected_shapes()


def test_the_mask_is_a_plain_attribute_with_the_right_number_of_pairs(stand_in: Callable) -> None:
    for block in (1, 3, 7, N):
        backbone = stand_in(block_size=block).backbone
        assert "mask" not in dict(backbone.named_buffers())
        assert int(backbone.mask.sum()) == N * block + N**2


def test_plain_loading_fails_as_the_released_code_does(miniature: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    # Of other content, so that it becomes a class which no adapter has mended in this process.
    folder = Path(shutil.copytree(miniature, tmp_path / "other"))
    with (folder / "modeling_bd3lm.py").open("a") as file:
        file.write("\n# another file\n")
    with pytest.raises(AttributeError, match="all_tied_weights_keys"):
        AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)


def test_freshly_constructed_it_is_degenerate_and_the_drawn_weights_are_not(stand_in: Callable) -> None:
    import torch

    model = stand_in()
    config = model.config.to_dict()
    fresh = checkpoint.construct(FIXTURE, SPEC, {**checkpoint.read_config(FIXTURE, SPEC), **config})
    ids = torch.cat((stream(0, N, masked=0.5), stream(1, N)), dim=1)
    assert run(fresh, ids).abs().max() == 0
    assert run(model, ids).std() > 0.5
    for name, parameter in model.named_parameters():
        kept, before = parameter.data.clone(), run(model, ids)
        parameter.data.zero_()
        assert distance(run(model, ids), before) > 100 * SAME, name
        parameter.data.copy_(kept)


def test_forward_oddities(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0, 2 * N)
    logits = run(model, ids)
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, N, VOCABULARY)
    assert run(model, stream(0, 5), sample_mode=True).shape == (2, 5, VOCABULARY)
    hidden = run(model, ids, output_hidden_states=True)[1]
    assert [tuple(state.shape) for state in hidden] == [(2, N, WIDTH)] * (LAYERS + 1)
    with pytest.raises(TypeError):
        model(ids)
    with pytest.raises(TypeError):
        model(ids, sigma(), attention_mask=torch.ones_like(ids))
    model.config.attn_backend = "flex"
    with pytest.raises(AssertionError, match="sdpa"):
        run(model, stream(0, 5), sample_mode=True)


def test_norms_answer_in_fp32(stand_in: Callable) -> None:
    import torch

    norm = stand_in().backbone.blocks[0].norm1
    assert norm(torch.ones(1, 1, WIDTH, dtype=torch.bfloat16)).dtype == torch.float32


def test_dropout_is_active_in_training_mode_only(stand_in: Callable) -> None:
    model, ids = stand_in(), stream(0, 2 * N)
    assert distance(run(model, ids), run(model, ids)) == 0
    model.train()
    assert distance(run(model, ids), run(model, ids)) > 100 * SAME


@pytest.mark.parametrize("conditioned", [False, True])
def test_logits_depend_on_the_noise_level_exactly_when_the_config_says_so(
    stand_in: Callable, conditioned: bool
) -> None:
    import torch

    model, ids = stand_in(time_conditioning=conditioned), stream(0, 2 * N)
    with torch.no_grad():
        moved = distance(model(ids, torch.tensor([0.1, 0.1])), model(ids, torch.tensor([5.0, 5.0])))
    assert (moved > 100 * SAME) is conditioned
    assert conditioned or moved == 0


@pytest.mark.parametrize("fields", [{"block_size": 1}, {}, {"block_size": N}, {"time_conditioning": True}], ids=str)
def test_a_noisy_block_in_training_equals_it_behind_its_clean_past_in_sampling(
    stand_in: Callable, fields: dict[str, Any]
) -> None:
    import torch

    model = stand_in(**fields)
    block = model.config.block_size
    noisy, clean = stream(0, N, masked=0.5), stream(1, N)
    training = run(model, torch.cat((noisy, clean), dim=1))
    for start in range(0, N, block):
        here = slice(start, start + block)
        sampling = run(model, torch.cat((clean[:, :start], noisy[:, here]), dim=1), sample_mode=True)
        assert distance(sampling[:, here], training[:, here]) < SAME


def test_one_block_of_full_length_is_plain_bidirectional_diffusion(stand_in: Callable) -> None:
    import torch

    noisy = stream(0, N, masked=0.5)
    wide, plain = stand_in(block_size=N), stand_in(cross_attn=False)
    assert distance(run(wide, torch.cat((noisy, stream(1, N)), dim=1)), run(plain, noisy)) < SAME


def test_cached_decoding_equals_recomputing_while_the_stream_fits(stand_in: Callable) -> None:
    import torch

    model, ids = stand_in(), stream(0, N, masked=0.3)
    whole = run(model, ids, sample_mode=True)
    for block in model.backbone.blocks:
        block.kv_cache, block.cache_idx = torch.zeros(2, N, 3 * WIDTH), 0
    for start in range(0, N, BLOCK):
        here = slice(start, start + BLOCK)
        denoised = run(model, ids[:, here], sample_mode=True)
        committed = run(model, ids[:, here], sample_mode=True, store_kv=True)
        assert distance(denoised, committed) == 0
        assert distance(denoised, whole[:, here]) < SAME
    assert model.backbone.blocks[0].cache_idx == N - BLOCK
    assert not model.backbone.blocks[0].kv_cache[:, :-BLOCK].equal(torch.zeros(2, N - BLOCK, 3 * WIDTH))


def test_weights_are_kept_by_content_and_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = checkpoint.materialise(FIXTURE, SPEC)
    written = (first / checkpoint.WEIGHTS).stat().st_mtime_ns
    assert checkpoint.materialise(FIXTURE, SPEC) == first
    assert (first / checkpoint.WEIGHTS).stat().st_mtime_ns == written
    other = checkpoint.materialise(FIXTURE, SPEC, {"n_blocks": 3})
    assert other != first
    assert [path.name for path in first.parent.iterdir() if path.name.startswith(".")] == []


def test_a_further_layer_changes_no_other_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    short, tall = (
        load_file(checkpoint.materialise(FIXTURE, SPEC, {"n_blocks": layers}) / checkpoint.WEIGHTS) for layers in (2, 3)
    )
    assert all(tall[name].equal(tensor) for name, tensor in short.items())
