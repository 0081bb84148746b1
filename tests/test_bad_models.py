"""Bad checkpoints and fixtures, as tables of a broken thing and its message, and good ones that are left alone."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest


def rewritten(name: str, edit: Callable[[dict], object]) -> Callable[[Path], None]:
    """Edit a JSON file; what the edit returns, where it returns anything, replaces the whole."""

    def rewrite(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(edit(value) or value))

    return rewrite


def tensors(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        held = load_file(folder / "model.safetensors")
        edit(held)
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, folder / "model.safetensors")

    return rewrite


def cut(size: int) -> Callable[[Path], None]:
    """Keep so many bytes of the weights, or leave out so many at the end."""

    def truncate(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return truncate


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    without_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")


def indexed(text: str) -> Callable[[Path], None]:
    def index(folder: Path) -> None:
        without_weights(folder)
        (folder / "model.safetensors.index.json").write_text(text)

    return index


def importing(line: str) -> Callable[[Path], None]:
    def insert(folder: Path) -> None:
        path = folder / "configuration_bd3lm.py"
        path.write_text(f"{line}\n{path.read_text()}")

    return insert


NORM = "backbone.blocks.0.norm1.weight"
MODELS = {
    "no folder": (
        lambda folder: shutil.rmtree(folder),
        "no such folder; name one, or a hub repository as OWNER/NAME@REV",
    ),
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        "no config.json; name the folder of one checkpoint",
    ),
    "config not JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "/config.json: cannot be read as JSON: *; fetch it again",
    ),
    "config a list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "/config.json: holds a JSON list, want an object; fetch it again",
    ),
    "another architecture": (
        rewritten("config.json", lambda config: config.update(architectures=["LLaDA"])),
        "/config.json: architectures is ['LLaDA'], bd3lm is for BD3LM; "
        "name another adapter or model, or correct the spec",
    ),
    "no architecture": (
        rewritten("config.json", lambda config: config.pop("architectures") and None),
        "/config.json: architectures is None, bd3lm is for BD3LM; name another adapter or model, or correct the spec",
    ),
    "no remote class": (
        rewritten("config.json", lambda config: config.pop("auto_map") and None),
        "/config.json: auto_map names None for AutoConfig; want FILE.CLASS of a Python file in that folder",
    ),
    "code of another repository": (
        rewritten("config.json", lambda config: config["auto_map"].update(AutoModelForMaskedLM="a/b--modeling.BD3LM")),
        "/config.json: auto_map names 'a/b--modeling.BD3LM' for AutoModelForMaskedLM; "
        "want FILE.CLASS of a Python file in that folder",
    ),
    "no code": (
        lambda folder: (folder / "modeling_bd3lm.py").unlink(),
        "/config.json: auto_map names 'modeling_bd3lm.BD3LM' for AutoModelForMaskedLM; "
        "want FILE.CLASS of a Python file in that folder",
    ),
    "a size missing": (
        rewritten("config.json", lambda config: config.pop("block_size") and None),
        "config.json lacks block_size, which bd3lm names in its sizes; "
        "correct the spec, or take the config.json that came with the weights",
    ),
    "a size in words": (
        rewritten("config.json", lambda config: config.update(n_blocks="two")),
        "config.json says n_blocks: 'two', want a whole number; "
        "correct the spec, or take the config.json that came with the weights",
    ),
    "no weights": (without_weights, "no weights; want model.safetensors, or shards with model.safetensors.index.json"),
    "pickled weights only": (
        pickled,
        "weights only as pytorch_model.bin, a pickle, which can run code; convert them to model.safetensors",
    ),
    "empty weights": (cut(0), "/model.safetensors: truncated or no safetensors file (0 bytes: *); fetch it again"),
    "header cut": (cut(100), "/model.safetensors: truncated or no safetensors file (100 bytes: *); fetch it again"),
    "data cut": (cut(-1), "/model.safetensors: truncated or no safetensors file (* bytes: *); fetch it again"),
    "no safetensors file": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "/model.safetensors: truncated or no safetensors file (43 bytes: *); fetch it again",
    ),
    "index not JSON": (
        indexed("weight_map"),
        "/model.safetensors.index.json: cannot be read as JSON: *; fetch it again",
    ),
    "index without weight_map": (
        indexed("{}"),
        "/model.safetensors.index.json: has no weight_map from tensors to files; fetch it again",
    ),
    "missing shard": (
        indexed('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}'),
        "model-00001-of-00001.safetensors is missing, which model.safetensors.index.json names; fetch it",
    ),
    "weights of another shape": (
        tensors(lambda held: held.update({NORM: held[NORM][1:]})),
        f"{NORM} has shape (23,), the config asks for (24,); are they of one model?",
    ),
    "a config of another shape": (
        rewritten("config.json", lambda config: config.update(hidden_dim=48)),
        "backbone.* has shape (*), the config asks for (*); are they of one model?",
    ),
    "a tensor missing": (
        tensors(lambda held: held.pop(NORM)),
        f"the weights lack {NORM}, (24,) in BD3LM; are they of one model?",
    ),
    "a tensor left over": (
        tensors(lambda held: held.update(extra=held[NORM].clone())),
        "the weights hold extra, which BD3LM does not have; are they of one model?",
    ),
    "code that does not import": (
        importing("import nowhere"),
        "its code does not build a model: ModuleNotFoundError: No module named 'nowhere'; "
        "mend it, or install what it imports",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_that_cannot_be_judged(refused: Callable, model: Path, case: str) -> None:
    spoil, message = MODELS[case]
    spoil(model)
    if case == "no folder":
        message = f"--checkpoint {model}: {message}"
    elif message.startswith("/"):
        message = f"{model}{message}"
    else:
        message = f"{model}: {message}"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, "--trust-remote-code")


PATHS = {
    "nothing": ("", "'': no such folder; name one, or a hub repository as OWNER/NAME@REV"),
    "a file": ("model/config.json", "model/config.json: is a file; name the folder that holds config.json"),
    "a long name": ("x" * 300, f"{'x' * 300}: no such folder; name one, or a hub repository as OWNER/NAME@REV"),
    "a model of the hub that is not here": (
        "nobody/nothing@v1",
        "nobody/nothing@v1: not in the local hub cache, and nothing is downloaded here; "
        "run `hf download nobody/nothing --revision v1` first",
    ),
}


@pytest.mark.parametrize("case", PATHS)
def test_names_of_models_without_network(
    monkeypatch: pytest.MonkeyPatch, refused: Callable, model: Path, case: str
) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", connect)
    name, message = PATHS[case]
    refused(f"--checkpoint {message}", "--adapter", "bd3lm", "--checkpoint", name, "--trust-remote-code")


def test_one_model_goes_with_one_adapter(refused: Callable, spec: Callable, model: Path) -> None:
    refused(
        "--checkpoint is one model, so it goes with one adapter; name it with --adapter",
        *("--adapter", f"bd3lm,{spec()}", "--checkpoint", model, "--trust-remote-code"),
    )


def test_no_code_of_a_checkpoint_runs_before_it_is_trusted(
    pytester: pytest.Pytester, refused: Callable, model: Path
) -> None:
    canary = pytester.path / "canary"
    for path in model.glob("*.py"):
        path.write_text(f"open({str(canary)!r}, 'w').close()\n{path.read_text()}")
    checkpoint = ("--adapter", "bd3lm", "--checkpoint", "model")
    refused("--checkpoint model: holds code of its own; add --trust-remote-code to run it", *checkpoint)
    assert not canary.exists()
    pytester.runpytest_inprocess(*checkpoint, "--trust-remote-code", "--collect-only")
    assert canary.exists(), "the canary does not sing, so its silence proves nothing"


FIXTURES = {
    "elsewhere": (
        lambda folder: folder / "model",
        "{fixture}: holds code that did not come with the spec; add --trust-remote-code to run it",
    ),
    "nowhere": (
        lambda folder: folder / "none",
        "fixture {fixture}: no config.json; the spec's `fixture` names the folder of one model",
    ),
    "an unknown name": (
        lambda folder: "bd3ml",
        "no bundled fixture 'bd3ml'; give an absolute path in the spec's `fixture`",
    ),
    "none": (lambda folder: None, "adapter mine has no miniature; name a model with --checkpoint"),
}


@pytest.mark.parametrize("case", FIXTURES)
def test_fixtures_of_third_parties(
    pytester: pytest.Pytester, refused: Callable, spec: Callable, model: Path, case: str
) -> None:
    """The spec lies in a folder of its own; the model beside that folder did not come with it."""
    place, message = FIXTURES[case]
    fixture = place(pytester.path)
    home = pytester.mkdir("home")
    pytester.syspathinsert(home)
    text = None if fixture is None else str(fixture)
    refused(message.format(fixture=fixture), "--adapter", spec(f"fixture={text!r}", folder=home))
