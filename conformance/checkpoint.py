"""A checkpoint folder: its config, its remote code and its weights, checked before anything is executed.

Bundled fixtures come without weights. They are drawn from a seed, written as safetensors when first
needed, into a cache that is keyed by the content of the fixture; a folder in the cache is whole or absent, and
one that is no longer as it was made is made again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import bounds, seal
from .bounds import CheckpointError as CheckpointError
from .bounds import json_object
from .scratch import scratch
from .spec import AdapterSpec, in_one_line

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
RECIPE = "1"  # how fixture weights are drawn; raise it when `draw_weights` changes


def fixture_roots() -> tuple[Path, Path]:
    """Where bundled fixtures lie: inside an installed wheel, or beside the package in a checkout."""
    here = Path(__file__).resolve().parent
    return here / "_fixtures", here.parent / "fixtures"


def ships_with(fixture: Path, spec: AdapterSpec) -> bool:
    """Whether a fixture's code came with this suite or with the spec, so that it may run unasked."""
    return any(fixture.is_relative_to(root) for root in (*fixture_roots(), spec.folder))


def fixture_folder(name: str) -> Path:
    """A bundled fixture by name, or any by absolute path."""
    for root in fixture_roots():
        if (root / name / "config.json").exists():
            return (root / name).resolve()
    if Path(name).is_absolute():
        raise CheckpointError(f"fixture {name}: no config.json; the spec's `fixture` names the folder of one model")
    raise CheckpointError(f"no bundled fixture {name!r}; give an absolute path in the spec's `fixture`")


def locate(text: str) -> Path:
    """The folder that `--checkpoint` names: a path, or REPO@REV out of the hub cache, without network."""
    folder = Path(os.path.expanduser(text))
    if text and os.path.isdir(folder):
        return folder.resolve()
    repo, _, revision = text.partition("@")
    if text and os.path.exists(folder):
        raise CheckpointError(f"--checkpoint {text}: is a file; name the folder that holds config.json")
    if text.startswith((".", "/", "~")) or repo.count("/") != 1:
        raise CheckpointError(
            f"--checkpoint {text or repr(text)}: no such folder; name one, or a hub repository as OWNER/NAME@REV"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision or None, local_files_only=True))
    except Exception:
        hint = f"hf download {repo}" + (f" --revision {revision}" if revision else "")
        raise CheckpointError(
            f"--checkpoint {text}: not in the local hub cache, and nothing is downloaded here; run `{hint}` first"
        ) from None


def read_config(folder: Path, spec: AdapterSpec) -> dict[str, Any]:
    """config.json with the spec's overrides; runs nothing.

    Raises:
        CheckpointError: it cannot be read, is of another architecture, lacks a size, or names no code of the folder.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json; name the folder of one checkpoint")
    bounds.check(folder)
    config = json_object(path)
    found = config.get("architectures")
    if not isinstance(found, list) or spec.architecture not in found:
        raise CheckpointError(
            f"{path}: architectures is {found!r}, {spec.name} is for {spec.architecture}; "
            "name another adapter or model, or correct the spec"
        )
    auto_map = config.get("auto_map")
    for auto in ("AutoConfig", spec.auto_class):
        named = auto_map.get(auto) if isinstance(auto_map, dict) else None
        file = f"{str(named).rpartition('.')[0]}.py"
        if not isinstance(named, str) or not (folder / file).is_file():
            raise CheckpointError(
                f"{path}: auto_map names {named!r} for {auto}; want FILE.CLASS of a Python file in that folder"
            )
    try:
        spec.resolve({**config, **spec.overrides})
    except ValueError as error:
        raise CheckpointError(
            f"{folder}: {error}; correct the spec, or take the config.json that came with the weights"
        ) from None
    return {**config, **spec.overrides}


def own_fields(folder: Path) -> dict[str, Any]:
    """Fields of config.json, but for those that say which code it goes with."""
    found = json_object(folder / "config.json")
    return {name: value for name, value in found.items() if name not in ("auto_map", "architectures", "model_type")}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, those that transformers would read, every one present."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.is_file():
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise CheckpointError(
                f"{folder}: weights only as {pickles[0]}, a pickle, which can run code; convert them to {WEIGHTS}"
            )
        raise CheckpointError(f"{folder}: no weights; want {WEIGHTS}, or shards with {INDEX}")
    shards = json_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{index}: has no weight_map from tensors to files; fetch it again")
    for name in sorted(set(shards.values())):
        if name != Path(name).name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index}: weight_map names {name!r}; want safetensors files of that folder")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing, which {INDEX} names; fetch it")
    return [folder / name for name in sorted(set(shards.values()))]


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors, read from the headers alone; CheckpointError when a file is cut short."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="np") as file:
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            size = path.stat().st_size
            raise CheckpointError(
                f"{path}: truncated or no safetensors file ({size} bytes: {error}); fetch it again"
            ) from None
    return found


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint by name, straight from the files."""
    from safetensors.torch import load_file

    return {name: tensor for path in weight_files(folder) for name, tensor in load_file(path).items()}


def check_weights(folder: Path, spec: AdapterSpec, config: Mapping[str, Any]) -> None:
    """Compare the file's names and shapes with the remote class; executes the folder's code.

    Raises:
        CheckpointError: the code fails, or names the first tensor that is missing, left over or of another shape.
    """
    import torch

    try:
        # transformers constructs on the meta device too, so code that cannot do it would not load anyway.
        with torch.device("meta"):
            wanted = {name: tuple(t.shape) for name, t in construct(folder, spec, config).state_dict().items()}
    except Exception as error:
        raise CheckpointError(
            f"{folder}: its code does not build a model: {in_one_line(error)}; mend it, or install what it imports"
        ) from None
    found = shapes(folder)
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(
                f"{folder}: the weights lack {name}, {wanted[name]} in {spec.architecture}; are they of one model?"
            )
        if name not in wanted:
            raise CheckpointError(
                f"{folder}: the weights hold {name}, which {spec.architecture} does not have; are they of one model?"
            )
        if wanted[name] != found[name]:
            raise CheckpointError(
                f"{folder}: {name} has shape {found[name]}, the config asks for {wanted[name]}; are they of one model?"
            )


def construct(folder: Path, spec: AdapterSpec, config: Mapping[str, Any], role: str = "reference") -> torch.nn.Module:
    """A fresh instance of the remote class under module names of its `role`'s own, so that no patch reaches it."""
    package = f"conformance_{role}_{content_key(folder)}"
    if package not in sys.modules:
        module = types.ModuleType(package)
        module.__path__ = [str(folder)]
        sys.modules[package] = module
    classes = []
    for auto in ("AutoConfig", spec.auto_class):
        file, _, name = config["auto_map"][auto].rpartition(".")
        with _visiting():
            modeling = importlib.import_module(f"{package}.{file}")
        classes.append(getattr(modeling, name))
    if spec.shim is not None:
        spec.shim(modeling)
    config_class, model_class = classes
    model: torch.nn.Module = model_class(config_class.from_dict(dict(config)))
    return model.eval()


def build(folder: Path, spec: AdapterSpec) -> torch.nn.Module:
    """The model that a `built` adapter is handed: not of the reference's classes, and filled from the files."""
    model = construct(folder, spec, read_config(folder, spec), role="subject")
    model.load_state_dict(tensors(folder))
    return model


@contextmanager
def _visiting() -> Iterator[None]:
    """Import code that is not ours: leave no `__pycache__` in its folder, pass over what it uses that is deprecated."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        sys.dont_write_bytecode = before


def content_key(folder: Path) -> str:
    """A digest of a folder's code, config and tokenizer; weights are left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".py", ".json"} and path.is_file():
            digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def weights_key(folder: Path) -> str:
    """A digest of a folder's weight files, by name and content."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as file:
            digest.update(f"{path.name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def materialise(fixture: Path, spec: AdapterSpec, overrides: Mapping[str, object] | None = None) -> Path:
    """A bootable copy of a model, with some config fields set and weights drawn anew; made once and cached.

    Raises:
        CheckpointError: the cache takes no files.
    """
    folder = materialised(fixture, spec, overrides)
    if not seal.holds(folder):
        from safetensors import SafetensorError

        try:
            _make(folder, fixture, spec, overrides or {})
        except (OSError, SafetensorError) as error:
            # `copytree` raises one error for all files: a list of (from, to, why).
            why = error.args[0][0][2] if isinstance(error, shutil.Error) else in_one_line(error)
            raise CheckpointError(
                f"{folder.parent}: weights cannot be kept there: {why}; "
                "make room, or name another place as XDG_CACHE_HOME"
            ) from error
    return folder


def _make(folder: Path, fixture: Path, spec: AdapterSpec, overrides: Mapping[str, object]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch(".making-", folder.parent) as making:
        draft = making / "checkpoint"
        weights = (f"*{suffix}" for suffix in (*PICKLES, ".safetensors", ".index.json"))
        shutil.copytree(fixture, draft, ignore=shutil.ignore_patterns("__pycache__", ".*", *weights))
        config = {**json.loads((draft / "config.json").read_text(encoding="utf-8")), **overrides}
        (draft / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        draw_weights(draft, spec)
        seal.put(draft)
        # Other processes may do the same at the same time. What is whole stays, as one of them may be reading it.
        if os.path.lexists(folder) and not seal.holds(folder):
            with suppress(FileNotFoundError):
                folder.rename(making / "spoilt")
        try:
            draft.rename(folder)
        except OSError:
            if not seal.holds(folder):
                raise


def materialised(fixture: Path, spec: AdapterSpec, overrides: Mapping[str, object] | None = None) -> Path:
    """Where that copy lies, once it is made."""
    key = hashlib.sha256(f"{RECIPE} {content_key(fixture)} {sorted((overrides or {}).items())}".encode())
    return cache_root() / f"{spec.architecture.lower()}-{key.hexdigest()[:16]}"


def draw_weights(folder: Path, spec: AdapterSpec) -> None:
    """Write seeded weights in which every path carries signal.

    Matrices are normal with variance 1 / fan-in; norms, which begin at 1, are spread around it, all else of one axis
    around 0, by 0.3: the vendors' zero initialisation of gates and heads would make every comparison vacuous. Each
    tensor has a generator of its own, seeded by its name, so that one more layer changes no other tensor. Buffers stay,
    but for vectors of zeros, which training fills.
    """
    import torch
    from safetensors.torch import save_file

    model = construct(folder, spec, read_config(folder, spec))
    saved = model.state_dict()
    untrained = {n: b for n, b in model.named_buffers() if n in saved and b.ndim and not b.any()}
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *untrained.items()):
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
            drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))
            if tensor.ndim > 1:
                tensor.copy_(drawn / tensor.shape[-1] ** 0.5)
            else:
                tensor.copy_(0.3 * drawn + float(bool((tensor == 1).all())))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )


def cache_root() -> Path:
    """Where drawn weights are kept: `$XDG_CACHE_HOME/bridge-conformance`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bridge-conformance"
