"""Baselines: committed ratios of bridge over model at the miniature's size, each of one kind of machine.

There, overhead dominates, and how large it is depends on the interpreter, on torch, on TransformerLens and on the
processor. One readable file per adapter beside its spec, written when a user asks for it with `--baseline-update` and
never otherwise:

    [[machine]]
    python = "3.11"
    torch = "2.13.0"
    lens = "4.3"
    cpu = "AMD EPYC, family 25, model 17, AVX512"
    ratios = { forward = 1.92, hook = 2.01 }
"""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .spec import AdapterSpec

Ratios = Mapping[str, float]


class BaselineError(ValueError):
    """A file of baselines that cannot be read; the message names it and what to write instead."""


@dataclass(frozen=True, slots=True, order=True)
class Machine:
    """What a ratio holds for: minors of Python and TransformerLens, torch's version, and the class of the processor."""

    python: str
    torch: str
    lens: str
    cpu: str

    @classmethod
    def here(cls) -> Machine:
        """The machine that this process runs on."""
        import torch

        major, minor, _ = platform.python_version_tuple()
        lens = ".".join(metadata.version("transformer-lens").split(".")[:2])
        capability = torch.backends.cpu.get_cpu_capability()
        return cls(f"{major}.{minor}", torch.__version__.partition("+")[0], lens, f"{processor()}, {capability}")

    def __str__(self) -> str:
        return f"Python {self.python}, torch {self.torch}, TransformerLens {self.lens}, {self.cpu}"


def processor(table: Path = Path("/proc/cpuinfo")) -> str:
    """The class of the processor, as the system tells it."""
    if not table.exists():
        return platform.processor() or platform.machine()
    first = table.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    parts = [told.get("model name", platform.machine())]
    parts += [f"{name.removeprefix('cpu ')} {told[name]}" for name in ("cpu family", "model") if name in told]
    return ", ".join(parts)


def path_of(spec: AdapterSpec) -> Path:
    """The file of an adapter; it need not exist."""
    return spec.folder / "baselines" / f"{spec.name}.toml"


def read(path: Path) -> dict[Machine, Ratios]:
    """Ratios by kind, of every machine that the file knows; of none where there is no file.

    Raises:
        BaselineError: the file is not what `write` makes.
    """
    if not path.exists():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return {_machine(entry): _ratios(entry) for entry in table["machine"]}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise BaselineError(
            f"{path}: no baselines: {type(error).__name__}: {error}; delete it, and make it with --baseline-update"
        ) from None


def _machine(entry: Mapping[str, Any]) -> Machine:
    return Machine(*(str(entry[name]) for name in Machine.__slots__))


def _ratios(entry: Mapping[str, Any]) -> Ratios:
    ratios = {str(kind): float(ratio) for kind, ratio in entry["ratios"].items()}
    if any(not 0 < ratio < float("inf") for ratio in ratios.values()):
        raise ValueError(f"a ratio is a number above 0, got {ratios}")
    return ratios


def write(path: Path, machine: Machine, ratios: Ratios) -> None:
    """Put down the ratios of one machine, and leave those of all others."""
    from .report.document import write_text

    path.parent.mkdir(exist_ok=True)
    write_text(path, text_of(path.stem, {**read(path), machine: ratios}))


def text_of(name: str, known: Mapping[Machine, Ratios]) -> str:
    """A file of baselines."""
    blocks = [
        f"# Bridge over model at the miniature's size; by `pytest --adapter {name} -k baseline --baseline-update`.\n"
    ]
    for machine in sorted(known):
        ratios = ", ".join(f"{kind} = {ratio:.3f}" for kind, ratio in known[machine].items())
        fields = [f"{field} = {_quoted(value)}" for field, value in asdict(machine).items()]
        blocks.append("\n".join(["[[machine]]", *fields, f"ratios = {{ {ratios} }}", ""]))
    return "\n".join(blocks)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
