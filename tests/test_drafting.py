"""`conformance new-adapter`: a draft of what is there, questions about the rest, and nothing written in vain."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from conftest import content

from conformance.commands import main
from conformance.spec import AdapterSpec

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "third-party" / "src"
MINIATURE = EXAMPLE / "haze_bridge" / "haze"
RELEASED = {"vocab_size": 50_000, "context_length": 1024, "hidden_dim": 768, "n_layers": 12, "n_heads": 12} | {
    "d_ff": 3072,
    "mask_id": 49_999,
    "eos_token_id": 49_998,
}
"""Sizes of a model that is no miniature, so that the draft has to make one."""
ADAPTER = ("--adapter", "haze_bridge.adapter:HazeAdapter")
TRUST = "--trust-remote-code"


@pytest.fixture
def here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, from which modules are imported, and the example's adapter beside it."""
    for path in (EXAMPLE, pytester.path):
        monkeypatch.syspath_prepend(path)
    return pytester.path


@pytest.fixture
def haze(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's model as its authors would have released it, but for the weights."""
    model = tmp_path_factory.mktemp("hub") / "haze"
    shutil.copytree(MINIATURE, model, ignore=shutil.ignore_patterns("__pycache__"))
    changed(**RELEASED)(model)
    return model


def drafted(name: str, model: Path, *options: str) -> AdapterSpec:
    """The spec that the command writes in this folder."""
    assert main(["new-adapter", name, "--model", str(model), TRUST, *options]) == 0
    spec: AdapterSpec = importlib.import_module(name).SPEC
    del sys.modules[name]
    return spec


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python compiles a user's own modules where they lie; that is not ours."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def test_a_model_that_nobody_has_seen(
    here: Path, haze: Path, run: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = drafted("my_haze", haze, *ADAPTER)
    told = capsys.readouterr().out
    assert sorted(path.name for path in here.iterdir()) == ["my_haze", "my_haze.deviations.toml", "my_haze.py"]
    config = json.loads((here / "my_haze" / "config.json").read_text())
    small = {"context_length": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 32, "d_ff": 48}
    assert {name: config[name] for name in spec.sizes.values()} == small | {"vocab_size": 67, "mask_id": 66}
    shown = [(layout.name, layout.relation.__name__, sorted(layout.arguments)) for layout in spec.layouts]
    assert shown == [("plain", "everyone", ["sigma"]), ("padded", "right_padded", ["attention_mask", "sigma"])]
    assert spec.points["blocks.{layer}.attn.q"] == "layers.{layer}.attention.q_proj"
    assert spec.points["pos_embed"] == "places"
    assert spec.todo.keys() == {"layouts", "points", "truths", "capabilities", "branches", "variants", "oracle"}
    assert [question for question in spec.todo.values() if question not in told] == []

    some = "boots or config_truths or pairing or parity or oracle"
    found = run("--adapter", "my_haze:SPEC", "-k", some, "--write-deviations", "draft.toml")
    for requirement in ("loading/boots", "hooks/pairing", "parity/logits"):
        assert set(found.verdicts(requirement).values()) == {"PASS"}, requirement
    (adapter,) = found.report["verdicts"]["adapters"]
    (truths,) = (r for r in adapter["results"] if r["requirement"] == "loading/config-truths")
    named = {f["at"]: f["want"] for f in truths["findings"] if f["code"] == "unconfirmed"}
    assert named == {f"spec.{field}": question for field, question in spec.todo.items()}
    written = (here / "draft.toml").read_text()
    assert "no-oracle" in written
    assert "unconfirmed" not in written


def rewritten(model: Path, *changes: tuple[str, str]) -> None:
    """Other code in the model."""
    path = model / "modeling_haze.py"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_a_relation_that_fits_nothing_is_asked_for(here: Path, haze: Path) -> None:
    near = "torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(2).triu(-2)"
    rewritten(haze, ("mask = None if attention_mask is None else", f"mask = {near} if attention_mask is None else"))
    spec = drafted("my_haze", haze, *ADAPTER)
    asked = "Who may attend to whom? What the model's code does fits nothing known here; `everyone` is a guess."
    assert spec.todo["layouts"].startswith(asked)
    assert spec.layouts[0].relation.__name__ == "everyone"
    assert "attention_dir" not in spec.truths


def test_a_model_that_cannot_be_called_is_drafted_with_what_it_raised(here: Path, haze: Path) -> None:
    rewritten(
        haze, ("input_ids, sigma, attention_mask=None):\n        self._check", "input_ids, mood, sigma):\n        _")
    )
    rewritten(haze, ("        _(input_ids, sigma, attention_mask)", "        attention_mask = None"))
    spec = drafted("my_haze", haze, *ADAPTER)
    assert "missing 1 required positional argument: 'mood'" in spec.todo["shim"]
    assert "The forward wants `mood`: what is it?" in spec.todo["layouts"]
    assert [layout.name for layout in spec.layouts] == ["plain"]


def test_an_adapter_that_mixes_up_its_norms_is_asked_about(here: Path, haze: Path) -> None:
    mixed = """
from haze_bridge.adapter import HazeAdapter

class Mixed(HazeAdapter):
    def __init__(self, cfg):
        super().__init__(cfg)
        parts = self.component_mapping["blocks"].submodules
        parts["ln1"].name, parts["ln2"].name = parts["ln2"].name, parts["ln1"].name
"""
    (here / "mixed.py").write_text(mixed)
    spec = drafted("my_haze", haze, "--adapter", "mixed:Mixed")
    assert spec.points["blocks.{layer}.ln1"] == "layers.{layer}.norm_2"
    assert "A forward passes blocks.{layer}.ln2 where blocks.{layer}.ln1 is expected." in spec.todo["points"]
    good = drafted("my_other", haze, *ADAPTER)
    assert "A forward passes" not in good.todo["points"]


KNOWN = {
    "bd3lm": {"train": "block_diffusion_training"},
    "dream": {"plain": "everyone", "blocks": "relation"},
    "gidd": {"plain": "everyone", "padded": "right_padded", "blocks": "relation"},
    "llada": {"plain": "everyone", "padded": "right_padded", "blocks": "relation"},
    "llada2_moe": {"full": "everyone", "blocks": "relation"},
}
"""What is found out of models that have a spec, as if they had none: layouts, and the relation of each."""


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.filterwarnings("ignore:`rope_scaling` is deprecated")
def test_what_is_told_of_a_known_model_is_what_its_spec_says(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from conformance.adapters import resolve

    # Who ran the model in this process before gave its code what it lacks; a command starts in a process of its own.
    monkeypatch.delitem(ROPE_INIT_FUNCTIONS, "default", raising=False)
    for module in [module for module in sys.modules if module.startswith("conformance_reference_")]:
        monkeypatch.delitem(sys.modules, module)
    (wanted,) = resolve([name])
    spec = drafted(f"my_{name}", ROOT / "fixtures" / name)
    assert {layout.name: layout.relation.__name__ for layout in spec.layouts} == KNOWN[name]
    assert spec.points.items() >= wanted.points.items()
    assert (spec.architecture, spec.auto_class) == (wanted.architecture, wanted.auto_class)
    assert (spec.shim is None) == (wanted.shim is None)
    assert {spec.sizes.get(size) for size in wanted.sizes} - set(wanted.sizes.values()) <= {None}
    assert spec.todo.keys() >= {"layouts", "points", "truths"}


def test_the_text_is_in_the_format_of_ours(here: Path, haze: Path) -> None:
    ruff = pytest.importorskip("ruff")
    drafted("my_haze", haze, *ADAPTER)
    drafted("my_llada", ROOT / "fixtures" / "llada")
    for command in (("format", "--check"), ("check",)):
        line = [ruff.find_ruff_bin(), *command, "--config", str(ROOT / "pyproject.toml"), "my_haze.py", "my_llada.py"]
        assert subprocess.run(line, capture_output=True, text=True).returncode == 0


def test_fields_come_in_the_order_of_the_guide(here: Path) -> None:
    import re

    drafted("my_llada", ROOT / "fixtures" / "llada")
    written = re.findall(r"^    (\w+)=", (here / "my_llada.py").read_text(), flags=re.MULTILINE)
    assert set(written) <= {field.name for field in fields(AdapterSpec)}
    page = (ROOT / "docs" / "new-adapter.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE)
    order = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert [name for name in order if name in written] == [name for name in written if name in order]


def changed(**fields: Any) -> Callable[[Path], None]:
    """Other fields in config.json; None takes one out."""

    def change(model: Path) -> None:
        path = model / "config.json"
        config = {**json.loads(path.read_text()), **fields}
        path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))

    return change


def broken(model: Path) -> None:
    path = model / "modeling_haze.py"
    path.write_text(path.read_text().replace("self.post_init()", "raise RuntimeError('too small')"))


BAD: dict[str, tuple[Callable[[Path], None] | None, tuple[str, ...], str]] = {
    "no flag": (
        None,
        ("my_haze", "--model", "model", *ADAPTER),
        "--model model: what the model takes and is made of only its code says (configuration_haze.py, "
        "modeling_haze.py); read it, and add --trust-remote-code to run it and to copy it beside the spec",
    ),
    "no model": (
        None,
        ("my_haze", "--model", "elsewhere", TRUST),
        "--model elsewhere: no config.json; name a folder shaped like the hub repository of one model",
    ),
    "no JSON": (
        lambda model: (model / "config.json").write_text("{") and None,
        ("my_haze", "--model", "model", TRUST),
        "model/config.json: cannot be read as JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1); fetch it again",
    ),
    "two architectures": (
        changed(architectures=["A", "B"]),
        ("my_haze", "--model", "model", TRUST),
        "--model model: architectures in config.json is ['A', 'B'], want one class",
    ),
    "no code": (
        changed(auto_map=None),
        ("my_haze", "--model", "model", TRUST),
        "--model model: config.json has no auto_map with AutoConfig, so the folder has no code to hold a bridge "
        "against; take the repository with its configuration_*.py and modeling_*.py",
    ),
    "no class": (
        changed(auto_map={"AutoConfig": "configuration_haze.HazeConfig"}),
        ("my_haze", "--model", "model", TRUST, *ADAPTER),
        "--model model: auto_map of config.json has no class HazeForMaskedLM; add it, as AutoModelForMaskedLM or "
        "another",
    ),
    "an unknown size": (
        changed(n_layers=None, stories=12),
        ("my_haze", "--model", "model", TRUST, *ADAPTER),
        "--model model: which field of config.json holds 'layers'? Say it as --size layers=FIELD; whole numbers are "
        "context_length, d_ff, eos_token_id, hidden_dim, mask_id, n_heads, stories, vocab_size",
    ),
    "a size that is none": (
        None,
        ("my_haze", "--model", "model", TRUST, "--size", "layers=model_type"),
        "--size layers=model_type: config.json says 'haze' there, want a whole number",
    ),
    "a field that is none": (
        None,
        ("my_haze", "--model", "model", TRUST, "--size", "n=context_lenght"),
        "--size n=context_lenght: config.json has no such field; did you mean 'context_length'?",
    ),
    "half a size": (
        None,
        ("my_haze", "--model", "model", TRUST, "--size", "layers"),
        "--size layers: want SIZE=FIELD, such as layers=depth",
    ),
    "no adapter": (
        None,
        ("my_haze", "--model", "model", TRUST),
        "--model model: TransformerLens ships no adapter for HazeForMaskedLM; name yours with --adapter module:Class",
    ),
    "no such adapter": (
        None,
        ("my_haze", "--model", "model", TRUST, "--adapter", "haze_bridge.adapter:Adapter"),
        "--adapter haze_bridge.adapter:Adapter: module 'haze_bridge.adapter' has no attribute 'Adapter'; write "
        "module:Class, and say where it lies, as in PYTHONPATH=.",
    ),
    "an adapter that is no class": (
        None,
        ("my_haze", "--model", "model", TRUST, "--adapter", "math:pi"),
        "--adapter math:pi: is a float, want the class of an adapter",
    ),
    "code that does not run": (
        broken,
        ("my_haze", "--model", "model", TRUST, *ADAPTER),
        "--model model: its code builds no small model: RuntimeError: too small; make a small copy of the folder that "
        "works, and name that",
    ),
    "a name that is none": (
        None,
        ("my-haze", "--model", "model", TRUST),
        "NAME: got 'my-haze', want the name of a module, such as my_model",
    ),
    "a name that is taken": (
        None,
        ("json", "--model", "model", TRUST),
        "NAME: there is a 'json' already; choose another, such as my_json",
    ),
    "no folder to write to": (
        None,
        ("my_haze", "--model", "model", TRUST, "--output", "nowhere"),
        "--output nowhere: no such folder; make it first",
    ),
    "a spec that is there": (
        lambda model: (model.parent / "my_haze.py").write_text("precious") and None,
        ("my_haze", "--model", "model", TRUST, *ADAPTER),
        "--output .: there is a my_haze.py already, and nothing is overwritten",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_drafted_is_told_in_one_line_and_leaves_nothing(
    case: str, here: Path, haze: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, arguments, message = BAD[case]
    model = Path(shutil.copytree(haze, here / "model"))
    if change is not None:
        change(model)
    before = content(here)
    assert main(["new-adapter", *arguments]) == 4
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"ERROR: {message}\n")
    assert content(here) == before


def test_a_size_that_is_named_is_taken(here: Path, haze: Path) -> None:
    model = Path(shutil.copytree(haze, here / "model"))
    for path in (*model.glob("*.py"), model / "config.json"):
        path.write_text(path.read_text().replace("d_ff", "stories"))
    assert "d_mlp" not in drafted("without", model, *ADAPTER).sizes
    spec = drafted("with_it", model, *ADAPTER, "--size", "d_mlp=stories")
    assert spec.sizes["d_mlp"] == "stories"
    assert json.loads((here / "with_it" / "config.json").read_text())["stories"] == 48


def test_a_question_about_no_field_is_refused(spec: Callable, refused: Callable) -> None:
    asked = spec("todo={'layuots': 'Which?'}")
    message = "importing 'mine' raised ValueError: spec 'mine': todo asks about 'layuots'; did you mean 'layouts'?"
    refused(f"--adapter mine:SPEC: {message}", "--adapter", asked)


def test_a_question_cannot_be_declared(spec: Callable, refused: Callable, pytester: pytest.Pytester) -> None:
    asked = spec("todo={'layouts': 'Which?'}")
    entry = '[[deviation]]\nrequirement = "loading/config-truths"\nat = "spec.layouts"\nfinding = "unconfirmed"\n'
    ledger = pytester.path / "mine.deviations.toml"
    ledger.write_text(f'{entry}because = "later"\n')
    message = "a question cannot be declared; answer it, then take it out of the spec's `todo`"
    refused(f"ledger {ledger}, entry 1: {message}", "--adapter", asked)
