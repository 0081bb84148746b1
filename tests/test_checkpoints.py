"""Good checkpoints: judged by the same requirements, held against the same snapshots, left as they were."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_checkpoint_of_other_sizes_is_held_against_the_same_snapshots(run: Callable) -> None:
    from conformance import checkpoint
    from conformance.adapters.bd3lm import SPEC

    sizes = {"n_blocks": 3, "hidden_dim": 32, "model_length": 26, "block_size": 2, "vocab_size": 101}
    other = checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC, sizes)
    found = run("--adapter", "bd3lm", "--checkpoint", str(other), "--trust-remote-code", timed=True)
    assert found.result.ret == 0
    (adapter,) = found.report["verdicts"]["adapters"]
    assert adapter["summary"]["conforms"] is True
    assert adapter["sizes"]["layers"] == 3
    assert found.verdicts("parity/stand-in") == {"train": "PASS", "sample": "PASS"}
    assert set(adapter["left_out"].values()) <= {"--complete"}


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "shards"])
def test_a_good_checkpoint_is_judged_and_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, run: Callable, model: Path, sharded: bool
) -> None:
    if sharded:
        shard(model)
    # Code that no other test has imported, so that it is compiled here.
    path = model / "modeling_bd3lm.py"
    path.write_text(f"{path.read_text()}\nSHARDED = {sharded}\n")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = held(model)
    found = run("--adapter", "bd3lm", "--checkpoint", str(model), "--trust-remote-code")
    assert found.result.ret == 0
    (adapter,) = found.report["verdicts"]["adapters"]
    assert adapter["model"]["miniature"] is False
    assert adapter["model"]["label"] == "checkpoint model"
    assert found.report["measurements"]["models"] == {"bd3lm": str(model)}
    assert "bd3lm (checkpoint model): " in found.text
    assert "miniature" not in found.text
    assert held(model) == before


def held(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shard(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(sorted(held))}
    for file in set(where.values()):
        save_file({name: held[name] for name in where if where[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_the_root_stays_where_pytest_was_started(
    run: Callable, miniature: Path, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    elsewhere = Path(shutil.copytree(miniature, tmp_path / "elsewhere"))
    found = run("--adapter", "bd3lm", "--checkpoint", str(elsewhere), "--trust-remote-code", "-k", "names")
    assert found.result.ret == 0
    assert f"rootdir: {pytester.path}" in found.text
    assert (pytester.path / ".pytest_cache").is_dir()
    assert not list(tmp_path.rglob(".pytest_cache"))


REVISION, OLDER = "1" * 40, "2" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, miniature: Path) -> Path:
    """A hub cache that holds one model in two revisions; returns the folder of the newer one."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--owner--bd3lm"
    for revision in (REVISION, OLDER):
        shutil.copytree(miniature, home / "snapshots" / revision)
    (home / "snapshots" / OLDER / "notes.json").write_text("{}")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(REVISION)
    return home / "snapshots" / REVISION


@pytest.mark.parametrize("rev", ["", f"@{REVISION}"], ids=["main", "a revision"])
def test_a_repository_is_taken_out_of_the_hub_cache(run: Callable, hub: Path, rev: str) -> None:
    name = f"owner/bd3lm{rev}"
    found = run("--adapter", "bd3lm", "--checkpoint", name, "--trust-remote-code", "-k", "truths")
    assert found.result.ret == 0
    (adapter,) = found.report["verdicts"]["adapters"]
    assert adapter["model"]["label"] == f"checkpoint {name}"
    assert found.report["measurements"]["models"] == {"bd3lm": str(hub)}


def test_a_spec_pins_the_revision_at_which_it_is_judged(run: Callable, spec: Callable, hub: Path) -> None:
    mine = spec(f"checkpoint='owner/bd3lm@{OLDER}', fixture=None")
    options = ("--trust-remote-code", "-k", "live_parameters")
    for asked, revision in (
        ((), OLDER),
        (("--checkpoint", "owner/bd3lm"), OLDER),
        (("--checkpoint", f"owner/bd3lm@{REVISION}"), REVISION),
    ):
        found = run("--adapter", mine, *asked, *options)
        assert found.result.ret == 0
        (adapter,) = found.report["verdicts"]["adapters"]
        assert adapter["model"]["label"] == f"checkpoint owner/bd3lm@{revision}"
        assert found.report["measurements"]["models"] == {"mine": str(hub.with_name(revision))}


def test_specs_with_models_of_their_own_are_judged_together(run: Callable, spec: Callable, hub: Path) -> None:
    mine = spec(f"checkpoint='owner/bd3lm@{OLDER}', fixture=None")
    found = run("--adapter", f"bd3lm,{mine}", "--trust-remote-code", "-k", "live_parameters")
    assert found.result.ret == 0
    labels = [adapter["model"]["label"] for adapter in found.report["verdicts"]["adapters"]]
    assert labels == ["miniature bd3lm", f"checkpoint owner/bd3lm@{OLDER}"]


def test_the_report_tells_code_and_weights_apart(run: Callable, model: Path) -> None:
    from safetensors.torch import load_file, save_file

    def identity() -> tuple[str, str]:
        found = run("--adapter", "bd3lm", "--checkpoint", str(model), "--trust-remote-code", "-k", "truths")
        (adapter,) = found.report["verdicts"]["adapters"]
        return adapter["model"]["code"], adapter["model"]["weights"]

    code, weights = identity()
    assert identity() == (code, weights)
    tensors = load_file(model / "model.safetensors")
    tensors["backbone.output_layer.linear.bias"][0] += 1
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    changed, other = identity()
    assert (changed, other != weights) == (code, True)
    path = model / "modeling_bd3lm.py"
    path.write_text(f"{path.read_text()}\nNEW = 1\n")
    assert (identity()[0] != code, identity()[1]) == (True, other)
