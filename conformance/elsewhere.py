"""Elsewhere: an adapter booted in processes of their own, which differ in hash seed and in what fresh memory holds.

Two processes import what every boot imports and wait; each job is done by a fork of one of them, so that it starts
from a clean state and costs a boot, no import.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import memory

if TYPE_CHECKING:
    from .spec import AdapterSpec
    from .subject import Boot


@dataclass(frozen=True, slots=True)
class Told:
    """What one process tells: the error of its boot, or digests of tensors and logits and the state around it."""

    error: str = ""
    failed: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    logits: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


_TOLD: dict[str, Told] = {}


def subjects(boot: Boot) -> tuple[Told, Told]:
    """The subject in two processes."""
    one, other = _all_told([_job(boot, 0), _job(boot, 1)], _tensors(boot))
    return one, other


def subject_and_control(boot: Boot) -> tuple[Told, Told]:
    """The subject in a process, and the same model loaded by transformers alone in another."""
    subjects(boot)
    control = {**_job(boot, 0), "control": True, "adapter": None, "amend": None}
    one, other = _all_told([_job(boot, 0), control], _tensors(boot))
    return one, other


def reference_to(adapter: str | type | None) -> str | None:
    """An adapter as another process finds it.

    Raises:
        ValueError: a class that no module holds under its name.
    """
    if adapter is None or isinstance(adapter, str):
        return adapter
    home, name = adapter.__module__, adapter.__qualname__
    if getattr(sys.modules.get(home), name, None) is not adapter:
        raise ValueError(f"{name} is made inside a function; put it at the top of a module")
    return f"{home}:{name}"


def _name_of(spec: AdapterSpec) -> str:
    """A spec as another process finds it."""
    held = vars(sys.modules[spec.module])
    name = next((name for name, value in held.items() if getattr(value, "name", None) == spec.name), None)
    if name is None:
        raise ValueError(f"spec {spec.name!r} is made inside a function; put it at the top of {spec.module}")
    return f"{spec.module}:{name}"


def _job(boot: Boot, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "control": False,
        "folder": str(boot.folder),
        "adapter": reference_to(boot.spec.adapter),
        "built": _name_of(boot.spec) if boot.spec.built else None,
        "auto_class": boot.spec.auto_class,
        "overrides": dict(boot.spec.overrides),
        "trusted": boot.trusted,
        "amend": [path for path in (boot.spec.repair, boot.amend_elsewhere) if path is not None],
        "layouts": {
            name: {key: value for key, value in pair.inputs.items() if not isinstance(value, Tensor)}
            for name, pair in boot.pairs.items()
        },
    }


def _tensors(boot: Boot) -> dict[str, Any]:
    return {
        f"{name}/{key}": value
        for name, pair in boot.pairs.items()
        for key, value in pair.inputs.items()
        if isinstance(value, Tensor)
    }


def _all_told(jobs: list[dict[str, Any]], tensors: Mapping[str, Any]) -> list[Told]:
    """Answers to some jobs, each asked once and two at a time."""
    drawn = {name: memory.digest(tensor) for name, tensor in tensors.items()}
    keys = [json.dumps([job, drawn], sort_keys=True) for job in jobs]
    missing = {key: job for key, job in zip(keys, jobs, strict=True) if key not in _TOLD}
    with ThreadPoolExecutor(max_workers=2) as pool:
        _TOLD.update(zip(missing, pool.map(lambda job: _ask(job, tensors), missing.values()), strict=True))
    return [_TOLD[key] for key in keys]


def _ask(job: Mapping[str, Any], tensors: Mapping[str, Any]) -> Told:
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(prefix="conformance-probe-") as scratch:
        folder = Path(scratch)
        (folder / "job.json").write_text(json.dumps({**job, "path": sys.path, "directory": os.getcwd()}))
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "inputs.safetensors")
        (folder / "log").touch()
        if status := _stem(job["seed"]).fork(folder):
            log = (folder / "log").read_text().strip()
            raise RuntimeError(f"a probe ended with status {status}: {log[-500:]}")
        return Told(**json.loads((folder / "told.json").read_text()))


class _Stem:
    """A process that has imported the libraries and does nothing else but fork."""

    def __init__(self, seed: int) -> None:
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.probe"],
            env=_environment(seed),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        atexit.register(self.end)

    def fork(self, folder: Path) -> int:
        """Let a fork do the job in a folder; its exit status."""
        asked, answered = self.process.stdin, self.process.stdout
        assert asked is not None
        assert answered is not None
        with self.lock:
            print(folder, file=asked, flush=True)
            return int(answered.readline() or "1")

    def end(self) -> None:
        """It ends when nobody can ask it any more."""
        self.process.communicate()


@functools.cache
def _stem(seed: int) -> _Stem:
    return _Stem(seed)


def _environment(seed: int) -> dict[str, str]:
    """glibc fills fresh memory with MALLOC_PERTURB_, so that a table nobody fills differs for certain."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "PYTHONHASHSEED": str(seed),
        "MALLOC_PERTURB_": str(85 + 85 * seed),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
