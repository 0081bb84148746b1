"""A trace: what a denoising run was at every step that was kept, in memory or in a folder."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .denoising import Kind, Step

Key = tuple[int, int, Kind]


def label(key: Key) -> str:
    """A step in a message."""
    block, step, kind = key
    return f"({block}, {step}, {kind})"


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to say of an entry without its tensors.

    Attributes:
        index, block, step, kind, runs: as in `conformance.denoising.Step`.
        window: the canvas columns that the forward saw, from and to.
        columns: as in `Entry`.
        whole: taps that have no position axis of the stream, and are never cut.
        calls: how often each tap fired.
        aliases: further names of taps.
        logits: whether logits were to be kept.
        shifted: whether aligned logits are not simply the logits.
    """

    index: int
    block: int
    step: int
    kind: Kind
    runs: bool
    window: tuple[int, int]
    columns: tuple[int, ...]
    whole: tuple[str, ...]
    calls: Mapping[str, int]
    aliases: Mapping[str, str]
    logits: bool
    shifted: bool

    @property
    def key(self) -> Key:
        """What a trace keeps it under."""
        return self.block, self.step, self.kind


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One step: its facts, canvas and logits, and by hook name, canonical or alias, what the hooks showed.

    `entry["blocks.1.hook_resid_post"]` is the tensor, as the model went on with it, along its position axis only the
    `columns`. Tensors of an entry on disk are read at every access, and are on CPU.
    """

    facts: Facts
    tensors: Mapping[str, Tensor]
    resume: Any = None

    def __getitem__(self, name: str) -> Tensor:
        calls = self.calls(name)
        if len(calls) > 1:
            raise KeyError(f"{name!r} fired {len(calls)} times at {label(self.facts.key)}; calls({name!r}) has all")
        return calls[0]

    def calls(self, name: str) -> list[Tensor]:
        """What a hook showed, firing after firing, where it fires more than once in a forward."""
        facts = self.facts
        canonical = facts.aliases.get(name, name)
        if canonical in facts.calls:
            return [self.tensors[tap_key(canonical, call)] for call in range(facts.calls[canonical])]
        if not facts.runs:
            raise KeyError(f"{label(facts.key)} has no taps: the model did not run")
        near = difflib.get_close_matches(name, [*facts.calls, *facts.aliases], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"{name!r} is not among the taps of {label(facts.key)}{hint}")

    def __contains__(self, name: object) -> bool:
        return name in self.facts.calls or name in self.facts.aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts.calls)

    def __len__(self) -> int:
        return len(self.facts.calls)

    @property
    def window(self) -> slice:
        """The columns of the canvas that the forward saw."""
        return slice(*self.facts.window)

    @property
    def columns(self) -> tuple[int, ...]:
        """Those of them that the taps hold along their position axis, in this order."""
        return self.facts.columns

    @property
    def t(self) -> Tensor | None:
        """Noise level in [0, 1], `batch`; None where the forward has none."""
        return self.tensors.get("t")

    @property
    def masked(self) -> Tensor:
        """Where the canvas held a mask before the step, bool `batch length`."""
        return self.tensors["masked"]

    @property
    def canvas_before(self) -> Tensor:
        """All tokens before the step, `batch length`."""
        return self.tensors["canvas_before"]

    @property
    def canvas_after(self) -> Tensor:
        """All tokens after the step, `batch length`."""
        return self.tensors["canvas_after"]

    @property
    def committed(self) -> Tensor:
        """Where a mask became a token, bool `batch length`."""
        return self.tensors["committed"]

    @property
    def logits(self) -> Tensor | None:
        """As the model returned them, `batch pos d_vocab`; None where it did not run."""
        return self._kept("logits")

    @property
    def aligned(self) -> Tensor | None:
        """Logits whose row i speaks of the token at column i, `batch pos d_vocab`; None where the model did not run."""
        return self._kept("aligned" if self.facts.shifted else "logits")

    @property
    def log_probs(self) -> Tensor | None:
        """After the parameterisation, `batch block d_vocab`, never cut; None for steps that draw nothing."""
        return self._kept("log_probs")

    @property
    def state(self) -> Any:
        """What `trace_denoising(..., resume=)` takes, to go on with this step; it is not written to disk."""
        if self.resume is None:
            raise ValueError(f"{label(self.facts.key)} has no state: none was given, or this was read from a folder")
        return self.resume

    def _kept(self, name: str) -> Tensor | None:
        if not self.facts.logits:
            raise ValueError(f"{label(self.facts.key)} has no {name}: trace_denoising(..., logits=True) keeps them")
        return self.tensors.get(name)


class Trace(Mapping[Key, Entry]):
    """Entries by (block, step, kind), in the order of the run.

    Attributes:
        canvas: all tokens at the end of the run, `batch length`; None in the folder of a run that broke off.
        result: what the sampler returned, which may be text; None where `stop` ended the run, and in a folder.
        stopped: the step before which `stop` ended the run, with its `state`; None where the run ended by itself.
    """

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self.canvas: Tensor | None = None
        self.result: Any = None
        self.stopped: Step | None = None

    def __getitem__(self, key: Key) -> Entry:
        if key not in self._entries:
            kept = [label(kept) for kept in self._entries]
            ends = f"{kept[0]} to {kept[-1]}, {len(kept)} entries" if kept else "nothing"
            raise KeyError(f"no entry {key}; kept is {ends}")
        return self._entries[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Keep an entry; keys are those of the run, which has each once."""
        self._entries[entry.facts.key] = entry

    @classmethod
    def open(cls, folder: Path) -> Trace:
        """A trace that `trace_denoising(..., to=folder)` wrote, in whichever process; without states to go on from."""
        trace, end = cls(), folder / END
        for path in sorted(folder.glob(f"*{ENTRY}")):
            stored = File(path)
            trace.add(Entry(stored.facts(), stored))
        if end.exists():
            trace.canvas = File(end)["canvas"]
        return trace


ENTRY = ".entry.safetensors"
END = "end.safetensors"


def tap_key(name: str, call: int) -> str:
    """Under which the tensors of an entry have one firing of a hook."""
    return f"taps/{name}/{call}"


@dataclass(frozen=True, slots=True, eq=False)
class File(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for; nothing stays open."""

    path: Path

    def __getitem__(self, name: str) -> Tensor:
        with self._opened() as file:
            if name not in file.keys():  # noqa: SIM118
                raise KeyError(name)
            tensor: Tensor = file.get_tensor(name)
            return tensor

    def __iter__(self) -> Iterator[str]:
        with self._opened() as file:
            return iter(list(file.keys()))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def facts(self) -> Facts:
        """The facts that were written with the tensors."""
        with self._opened() as file:
            said = json.loads(file.metadata()["facts"])
        tuples = {name: tuple(said[name]) for name in ("window", "columns", "whole")}
        return Facts(**{**said, **tuples, "kind": Kind(said["kind"])})

    def _opened(self) -> Any:
        from safetensors import safe_open

        return safe_open(self.path, "pt")


def home_of(to: str | torch.device | Path | None) -> torch.device | Path | None:
    """Where tensors go: a device, or a folder, which is made; ValueError where something lies in it."""
    if to is None:
        return None
    if not isinstance(to, Path):
        try:
            return torch.device(to)
        except RuntimeError:
            raise ValueError(f"to is {to!r}, wanted a device, or a folder as a Path") from None
    to.mkdir(parents=True, exist_ok=True)
    if any(to.iterdir()):
        raise ValueError(f"to is {str(to)!r}, which is not empty: a trace has a folder of its own")
    return to


def write(path: Path, tensors: Mapping[str, Tensor], facts: Facts | None = None) -> File:
    """Write tensors to a file that is there as a whole or not at all."""
    from safetensors.torch import save_file

    under_way = path.with_suffix(".partial")
    said = {"facts": json.dumps(dataclasses.asdict(facts))} if facts is not None else {}
    try:
        save_file(dict(tensors), under_way, said)
        os.replace(under_way, path)
    finally:
        under_way.unlink(missing_ok=True)
    return File(path)
