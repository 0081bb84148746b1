"""A model folder as it is found: its config read, its sizes named, and a small copy of it made. Runs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import bounds, checkpoint
from ..spec import SIZES as NEEDED
from ..spec import nearest
from . import words

MEANING = {"n": ", the longest stream"}
"""What a size is, where its name does not say."""


class DraftError(ValueError):
    """A spec that cannot be drafted; the message is one line and ends with what to do."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder shaped like a hub repository.

    `sizes` are our names for fields of its config, `small` is that config with what is large made small.
    """

    path: Path
    architecture: str
    autos: Mapping[str, str]
    config: Mapping[str, Any]
    sizes: Mapping[str, str]
    small: Mapping[str, Any]

    @property
    def overrides(self) -> dict[str, object]:
        """What a user sets to run the model on a CPU."""
        return {name: value for name, value in words.ON_A_CPU.items() if self.config.get(name, value) != value}

    @property
    def keeps_tokenizer(self) -> bool:
        """Whether its own tokenizer goes with the small vocabulary."""
        field = self.sizes["d_vocab"]
        return self.small[field] == self.config[field] and (self.path / "tokenizer_config.json").is_file()

    def copy(self, to: Path) -> None:
        """Write the small model: code, config and tokenizer, no weights."""
        weights = (f"*{ending}" for ending in (*checkpoint.PICKLES, ".safetensors", ".index.json"))
        left_out = shutil.ignore_patterns("__pycache__", ".*", *weights, *self._tokenizer())
        shutil.copytree(self.path, to, ignore=left_out)
        (to / "config.json").write_text(json.dumps(self.small, indent=2) + "\n", encoding="utf-8")
        defaults = to / "generation_config.json"
        if defaults.is_file():
            shrunk = _within(json.loads(defaults.read_text(encoding="utf-8")), self.small[self.sizes["d_vocab"]])
            defaults.write_text(json.dumps(shrunk, indent=2) + "\n", encoding="utf-8")
        if not self.keeps_tokenizer:
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(checkpoint.fixture_folder(words.TOKENIZER) / name, to / name)

    def _tokenizer(self) -> tuple[str, ...]:
        """Patterns of the files of a tokenizer that does not go with the small vocabulary."""
        every = ("tokenizer*", "tokenization_*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json")
        return () if self.keeps_tokenizer else (*every, "*.model", "*.tiktoken")


def read(path: Path, named: Mapping[str, str]) -> Folder:
    """A folder by its config; `named` are sizes whose fields the user told.

    Raises:
        DraftError: it is none of a model with code of its own, or a size that is needed has no field.
        CheckpointError: its code lies elsewhere.
    """
    if not (path / "config.json").is_file():
        raise DraftError(f"--model {path}: no config.json; name a folder shaped like the hub repository of one model")
    bounds.check(path)
    config = bounds.json_object(path / "config.json")
    architectures, autos = config.get("architectures"), config.get("auto_map")
    if not isinstance(architectures, list) or len(architectures) != 1:
        raise DraftError(f"--model {path}: architectures in config.json is {architectures!r}, want one class")
    if not isinstance(autos, dict) or "AutoConfig" not in autos:
        raise DraftError(
            f"--model {path}: config.json has no auto_map with AutoConfig, so the folder has no code to hold a bridge "
            "against; take the repository with its configuration_*.py and modeling_*.py"
        )
    sizes = _sizes(path, config, named)
    return Folder(path, architectures[0], autos, config, sizes, _small(config, sizes))


def _sizes(path: Path, config: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for size, fields in words.SIZES.items():
        held = [field for field in fields if isinstance(config.get(field), int)]
        if size in named or held:
            found[size] = named.get(size, held[0] if held else "")
    found |= {size: field for size, field in named.items() if size not in found}
    for size, field in found.items():
        if field not in config:
            raise DraftError(f"--size {size}={field}: config.json has no such field{nearest(field, config)}")
        if not isinstance(config[field], int):
            raise DraftError(
                f"--size {size}={field}: config.json says {config.get(field)!r} there, want a whole number"
            )
    for size in NEEDED:
        if size not in found:
            numbers = sorted(name for name, value in config.items() if type(value) is int)
            raise DraftError(
                f"--model {path}: which field of config.json holds {size!r}{MEANING.get(size, '')}? Say it as "
                f"--size {size}=FIELD; "
                f"whole numbers are {', '.join(numbers) or 'none'}"
            )
    return found


def _small(config: Mapping[str, Any], sizes: Mapping[str, str]) -> dict[str, Any]:
    """The config with every known size at most as large as in `SMALL`; the proportions of heads stay."""
    small = dict(config)
    for size, field in sizes.items():
        small[field] = min(config[field], words.SMALL.get(size, config[field]))
    for field, most in words.SMALL_FIELDS.items():
        if type(config.get(field)) is int:
            small[field] = min(config[field], most)
    if {"heads", "kv_heads"} <= sizes.keys():
        heads, kept = sizes["heads"], sizes["kv_heads"]
        small[kept] = max(1, small[heads] * config[kept] // config[heads])
    layers = config[sizes["layers"]]
    for name, value in config.items():
        if isinstance(value, list) and len(value) == layers > small[sizes["layers"]]:
            small[name] = value[: small[sizes["layers"]]]
    vocabulary = config[sizes["d_vocab"]]
    if vocabulary > words.VOCABULARY:
        known = bounds.json_object(checkpoint.fixture_folder(words.TOKENIZER) / "config.json")["vocab_size"]
        # A table of embeddings may have more rows than there are tokens.
        wide = [name for name, value in config.items() if type(value) is int and 0.9 < value / vocabulary < 1.1]
        small |= dict.fromkeys((name for name in wide if not name.endswith("_id")), known)
        small = _within(small, known)
    return small


def _within(config: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """Ids of tokens moved into a vocabulary: the mask's to its end, all others to the one before."""

    def within(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [within(name, each) for each in value]
        large = type(value) is int and value >= vocabulary
        return vocabulary - (1 if "mask" in name else 2) if large else value

    ids = [name for name in config if name.endswith(("_id", "_index", "_token"))]
    return {**config, **{name: within(name, config[name]) for name in ids}}
