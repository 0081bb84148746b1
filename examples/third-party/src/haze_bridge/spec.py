"""Haze, drafted by `conformance new-adapter haze --adapter haze_bridge.adapter:HazeAdapter`, its questions answered."""

from pathlib import Path

from conformance.oracles.relations import everyone, right_padded
from conformance.spec import NOT_CAUSAL, AdapterSpec, Attend, Layout, NotYet, PerRow, Size, Span

TEXT, SIGMA = (Span("n", masked=0.5),), {"sigma": PerRow(0.0, 1.0)}
LAYER, THERE = "blocks.{layer}", "layers.{layer}"

SPEC = AdapterSpec(
    name="haze",
    module=__name__,
    architecture="HazeForMaskedLM",
    auto_class="AutoModelForMaskedLM",
    adapter="haze_bridge.adapter:HazeAdapter",
    fixture=str(Path(__file__).parent / "haze"),
    sizes={"n": "context_length", "layers": "n_layers", "heads": "n_heads", "d_model": "hidden_dim"}
    | {"d_mlp": "d_ff", "d_vocab": "vocab_size", "mask": "mask_id"},
    layouts=(
        Layout("plain", TEXT, everyone, SIGMA, ragged=True),
        Layout("padded", TEXT, right_padded, SIGMA | {"attention_mask": Attend("2-D int")}),
    ),
    mask_token=Size("mask"),
    points={"embed": "tokens", "pos_embed": "places", "level": "level", "level.in": "level.0", "level.out": "level.2"}
    | {LAYER: THERE, f"{LAYER}.ln1": f"{THERE}.norm_1", f"{LAYER}.ln2": f"{THERE}.norm_2"}
    | {f"{LAYER}.attn": f"{THERE}.attention", f"{LAYER}.mlp": f"{THERE}.mlp"}
    | {f"{LAYER}.attn.{part}": f"{THERE}.attention.{part}_proj" for part in "qkvo"}
    | {f"{LAYER}.mlp.in": f"{THERE}.mlp.up", f"{LAYER}.mlp.out": f"{THERE}.mlp.down"}
    | {"ln_final": "norm", "unembed": "head"},
    truths={"normalization_type": "LN", "eps": 1e-5, "act_fn": "gelu", "attention_dir": "bidirectional"},
    capabilities=NOT_CAUSAL | {"denoise": NotYet("Haze has no sampler")},
    oracle="haze_bridge.oracle:forward",
    bench={"context_length": 256, "n_layers": 4, "hidden_dim": 256, "d_ff": 1024},
    axes=("n", "d_model", "d_mlp", "d_vocab", "d_model//heads", "heads"),
)
