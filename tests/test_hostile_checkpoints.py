"""Hostile checkpoints: each is refused in one line, and a canary that sings when anything is executed stays silent.

Consent is to code that lies in the folder: not to pickles, not to what links, names or other repositories bring along.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TRUST = "--trust-remote-code"


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple:
        return Path.touch, (self.sign,)


@pytest.fixture
def sign(pytester: pytest.Pytester) -> Path:
    """What a canary leaves when it sings."""
    return pytester.path / "sign"


@pytest.fixture
def elsewhere(pytester: pytest.Pytester, model: Path, sign: Path) -> Path:
    """A copy of the model outside its folder, whose code sings, and the same as a repository of the hub's cache."""
    folder = Path(shutil.copytree(model, pytester.path / "elsewhere"))
    for path in folder.glob("*.py"):
        path.write_text(f"open({str(sign)!r}, 'w').close()\n{path.read_text()}")
    return folder


@pytest.fixture
def hub(pytester: pytest.Pytester, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub cache with the repository `other/repo`, whose code sings; transformers would take it from there."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(pytester.path / "hub"))
    home = pytester.path / "hub" / "models--other--repo"
    # transformers keeps code that it has run once under its revision.
    revision = hashlib.sha1(str(home).encode()).hexdigest()
    shutil.copytree(elsewhere, home / "snapshots" / revision)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(revision)


def edited(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def bombed(path: Path, sign: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(sign), protocol=2))


# Links.

LINKED = ("config.json", "configuration_bd3lm.py", "modeling_bd3lm.py", "tokenizer.json")


@pytest.mark.parametrize("consent", [(), (TRUST,)], ids=["unasked", "trusted"])
@pytest.mark.parametrize("name", LINKED)
def test_a_link_out_of_the_folder_is_not_followed(
    refused: Callable, model: Path, elsewhere: Path, sign: Path, name: str, consent: tuple[str, ...]
) -> None:
    (model / name).unlink()
    (model / name).symlink_to(Path("..", "elsewhere", name))
    message = f"{model / name}: is a link out of its folder, to {elsewhere / name}; put the file itself there"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, *consent)
    assert not sign.exists()


def test_code_that_imports_a_sibling_through_a_link_is_not_run(
    refused: Callable, model: Path, elsewhere: Path, sign: Path
) -> None:
    (elsewhere / "sibling.py").write_text(f"open({str(sign)!r}, 'w').close()\n")
    (model / "sibling.py").symlink_to(elsewhere / "sibling.py")
    path = model / "modeling_bd3lm.py"
    path.write_text(f"from . import sibling\n{path.read_text()}")
    message = f"{model}/sibling.py: is a link out of its folder, to {elsewhere}/sibling.py; put the file itself there"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)
    assert not sign.exists()


def test_a_linked_folder_of_code_is_not_run(refused: Callable, model: Path, elsewhere: Path) -> None:
    (model / "parts").symlink_to(elsewhere)
    message = f"{model / 'parts'}: is a link out of its folder, to {elsewhere}; put the file itself there"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)


def test_links_that_lead_nowhere_or_in_circles_are_refused(refused: Callable, model: Path, pytester) -> None:
    (model / "notes.json").symlink_to(pytester.path / "none")
    message = f"{model}/notes.json: is a link out of its folder, to {pytester.path}/none; put the file itself there"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)
    (model / "notes.json").unlink()
    (model / "modeling_bd3lm.py").unlink()
    (model / "modeling_bd3lm.py").symlink_to("modeling_bd3lm.py")
    refused(
        f"{model}/config.json: auto_map names 'modeling_bd3lm.BD3LM' for AutoModelForMaskedLM; "
        "want FILE.CLASS of a Python file in that folder",
        *("--adapter", "bd3lm", "--checkpoint", model, TRUST),
    )


def test_links_within_the_folder_and_to_weights_on_another_disk_are_followed(
    run: Callable, model: Path, elsewhere: Path, sign: Path
) -> None:
    (model / "modeling_bd3lm.py").rename(model / "code.py")
    (model / "modeling_bd3lm.py").symlink_to("code.py")
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to(elsewhere / "model.safetensors")
    (model / ".venv").mkdir()
    (model / ".venv" / "python").symlink_to(sys.executable)
    found = run("--adapter", "bd3lm", "--checkpoint", str(model), TRUST, "-k", "truths")
    assert found.result.ret == 0
    assert not sign.exists()


def test_the_links_of_the_hub_cache_are_followed(run: Callable, model: Path, pytester: pytest.Pytester) -> None:
    """It holds every file once, under its digest, and revisions link to those."""
    home = pytester.path / "models--owner--bd3lm"
    (home / "blobs").mkdir(parents=True)
    (home / "snapshots").mkdir()
    folder = model.rename(home / "snapshots" / "1")
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(home / "blobs" / str(number))
        path.symlink_to(Path("..", "..", "blobs", str(number)))
    found = run("--adapter", "bd3lm", "--checkpoint", str(folder), TRUST, "-k", "truths")
    assert found.result.ret == 0


# Pickles.

PICKLED = {
    "weights": "pytorch_model.bin",
    "weights by another name": "model.pt",
    "a shard": "pytorch_model-00001-of-00001.bin",
}


@pytest.mark.parametrize("consent", [(), (TRUST,)], ids=["unasked", "trusted"])
@pytest.mark.parametrize("what", PICKLED)
def test_pickled_weights_are_never_read(
    refused: Callable, model: Path, sign: Path, what: str, consent: tuple[str, ...]
) -> None:
    (model / "model.safetensors").unlink()
    bombed(model / PICKLED[what], sign)
    message = f"weights only as {PICKLED[what]}, a pickle, which can run code; convert them to model.safetensors"
    refused(f"{model}: {message}", "--adapter", "bd3lm", "--checkpoint", model, *consent)
    assert not sign.exists()
    with (model / PICKLED[what]).open("rb") as file:
        pickle.load(file)
    assert sign.exists(), "the canary does not sing, so its silence proves nothing"


def test_a_pickle_under_the_name_of_safetensors_is_none(refused: Callable, model: Path, sign: Path) -> None:
    bombed(model / "model.safetensors", sign)
    size = (model / "model.safetensors").stat().st_size
    message = f"{model}/model.safetensors: truncated or no safetensors file ({size} bytes: *); fetch it again"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)
    assert not sign.exists()


def test_pickles_beside_safetensors_stay_closed(run: Callable, model: Path, sign: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        bombed(model / name, sign)
    found = run("--adapter", "bd3lm", "--checkpoint", str(model), TRUST, "-k", "truths or live_parameters")
    assert found.result.ret == 0
    assert not sign.exists()


def test_a_boot_of_ones_own_reads_no_pickle_that_runs_code(model: Path, sign: Path) -> None:
    """`conformance.boot` is TransformerLens's way, and transformers reads a pickle; but only one of plain tensors."""
    import conformance

    (model / "model.safetensors").unlink()
    bombed(model / "pytorch_model.bin", sign)
    with pytest.raises(pickle.UnpicklingError):
        conformance.boot(model, trust_remote_code=True)
    assert not sign.exists()


# Names of what lies elsewhere.

CLASSES = {
    "another repository": "other/repo--modeling_bd3lm.BD3LM",
    "another folder": "../elsewhere/modeling_bd3lm.BD3LM",
    "an absolute path": "/elsewhere/modeling_bd3lm.BD3LM",
    "a module of Python's": "os.path.join",
}


@pytest.mark.parametrize("consent", [(), (TRUST,)], ids=["unasked", "trusted"])
@pytest.mark.parametrize("what", CLASSES)
def test_a_class_of_another_place_is_not_fetched(
    refused: Callable, model: Path, hub: None, sign: Path, what: str, consent: tuple[str, ...]
) -> None:
    own = json.loads((model / "config.json").read_text())["auto_map"]
    edited(model / "config.json", auto_map={**own, "AutoModelForMaskedLM": CLASSES[what]})
    # As if the folder held such a file; transformers splits the name before it looks.
    if "--" in CLASSES[what]:
        (model / "other").mkdir()
        shutil.copy(model / "modeling_bd3lm.py", model / "other" / "repo--modeling_bd3lm.py")
    message = f"auto_map names {CLASSES[what]!r} for AutoModelForMaskedLM; want FILE.CLASS of a Python file"
    refused(f"{model}/config.json: {message} in that folder", "--adapter", "bd3lm", "--checkpoint", model, *consent)
    assert not sign.exists()


TOKENIZERS = {
    "by name": {"AutoTokenizer": ["other/repo--configuration_bd3lm.BD3LMConfig", None]},
    "the fast one": {"AutoTokenizer": [None, "other/repo--configuration_bd3lm.BD3LMConfig"]},
    "as transformers once wrote it": ["other/repo--configuration_bd3lm.BD3LMConfig", None],
}


@pytest.mark.parametrize("how", TOKENIZERS)
def test_a_tokenizer_of_another_repository_is_not_fetched(
    refused: Callable, model: Path, hub: None, sign: Path, how: str
) -> None:
    edited(model / "tokenizer_config.json", auto_map=TOKENIZERS[how])
    message = (
        f"{model}/tokenizer_config.json: auto_map names 'other/repo--configuration_bd3lm.BD3LMConfig' for "
        "AutoTokenizer; want FILE.CLASS of a Python file in that folder"
    )
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)
    assert not sign.exists()
    from transformers import AutoTokenizer

    with contextlib.suppress(Exception):
        AutoTokenizer.from_pretrained(model, trust_remote_code=True)
    assert sign.exists(), "transformers would not have run it, so the silence proves nothing"


def test_an_adapter_on_top_of_another_model_is_not_followed_there(refused: Callable, model: Path) -> None:
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "other/repo"}))
    message = f"{model}: holds adapter_config.json, which goes on top of another model; merge the two first"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)


@pytest.mark.parametrize("name", ["../elsewhere/model.safetensors", "{elsewhere}/model.safetensors", "weights.bin"])
def test_an_index_names_files_of_its_folder(refused: Callable, model: Path, elsewhere: Path, name: str) -> None:
    (model / "model.safetensors").unlink()
    name = name.format(elsewhere=elsewhere)
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    message = f"{index}: weight_map names {name!r}; want safetensors files of that folder"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)


# Names of folders.


def test_a_folder_of_any_name_is_judged_and_told_on_one_line(
    pytester: pytest.Pytester, run: Callable, refused: Callable, model: Path
) -> None:
    folder = model.rename(pytester.path / 'a modèle-模型 @%s{x} "q"\n\x1b[31m')
    shown = str(folder).replace("\n", "\\n").replace("\x1b", "\\x1b")
    refused(
        f"--checkpoint {shown}: holds code of its own; add --trust-remote-code to run it",
        *("--adapter", "bd3lm", "--checkpoint", folder),
    )
    found = run("--adapter", "bd3lm", "--checkpoint", str(folder), TRUST, "-k", "truths")
    assert found.result.ret == 0
    (adapter,) = found.report["verdicts"]["adapters"]
    assert adapter["model"]["label"] == f"checkpoint {Path(shown).name}"
    assert "\x1b" not in found.text


# Files that are none.


def huge(path: Path) -> None:
    with path.open("w") as file:
        os.truncate(file.fileno(), 2**26 + 1)


CONFIGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda path: path.mkdir(), ": no config.json; name the folder of one checkpoint"),
    "a pipe": (os.mkfifo, ": no config.json; name the folder of one checkpoint"),
    "huge": (
        huge,
        "/config.json: 67108865 bytes are more than any config or index has; fetch it again",
    ),
    "bytes": (lambda path: path.write_bytes(b"\xff\xfe"), "/config.json: cannot be read as JSON: *; fetch it again"),
    "deep": (lambda path: path.write_text("[" * 10**5), "/config.json: cannot be read as JSON: *; fetch it again"),
    "a long number": (
        lambda path: path.write_text(f'{{"a": {"9" * 5000}}}'),
        "/config.json: cannot be read as JSON: *; fetch it again",
    ),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_that_is_none(refused: Callable, model: Path, what: str) -> None:
    make, message = CONFIGS[what]
    (model / "config.json").unlink()
    make(model / "config.json")
    refused(f"{model}{message}", "--adapter", "bd3lm", "--checkpoint", model, TRUST)


def test_a_tokenizer_config_that_is_none(refused: Callable, model: Path) -> None:
    (model / "tokenizer_config.json").write_text("<<<<<<< HEAD\n")
    message = f"{model}/tokenizer_config.json: cannot be read as JSON: *; fetch it again"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["a pipe", "a folder"])
def test_weights_that_are_no_file(refused: Callable, model: Path, make: Callable[[Path], None]) -> None:
    (model / "model.safetensors").unlink()
    make(model / "model.safetensors")
    message = f"{model}: no weights; want model.safetensors, or shards with model.safetensors.index.json"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, TRUST)


def test_what_only_looks_like_a_file_is_passed_over(run: Callable, model: Path) -> None:
    os.mkfifo(model / "pipe.json")
    (model / "folder.py").mkdir()
    found = run("--adapter", "bd3lm", "--checkpoint", str(model), TRUST, "-k", "truths")
    assert found.result.ret == 0
