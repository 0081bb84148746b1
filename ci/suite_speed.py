"""How long a whole run takes, over the floor below which nobody gets: `python ci/suite_speed.py [PART ...]`.

The floor is a process that imports TransformerBridge, boots the adapter and runs one forward. Parts: `whole` (the run
of BD3LM over the floor, in interleaved pairs, its forwards and backwards, and what each family takes), `layers` (the
same with 2, 4, 8 and 12 layers), `workers` (every adapter with two workers and without). Without parts all are run, and
docs/performance.md is written; with parts they are printed. On a quiet machine that takes a quarter of an hour.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from conformance.report.document import write_text

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PAIRS = 5
LAYERS = (2, 4, 8, 12)
WHOLE, SHARE = 2.0, 0.65
"""Targets: whole run over floor, and two workers over none."""

FLOOR = """
import sys, torch
from transformer_lens.model_bridge import TransformerBridge
from conformance import boot, example
torch.set_num_threads(1)
inputs = dict(example("bd3lm", "train"))
bridge = boot(*sys.argv[1:], adapter="bd3lm", trust_remote_code=True)
with torch.no_grad():
    bridge(inputs.pop("input_ids"), **inputs)
"""

HEAD = """\
# How long it takes

Made by `nox -s speed` (`python ci/suite_speed.py`), on {machine}. Seconds are of whole processes, start and end
included; they are this machine's, ratios travel. No test asserts any of them.
"""


def timed(*command: str) -> float:
    """Wall seconds of a process that has to end well."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryDirectory() as nowhere:
        start = time.perf_counter()
        ended = subprocess.run([sys.executable, *command], cwd=nowhere, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {ended.returncode}\n{ended.stdout[-2000:]}{ended.stderr}")
    return seconds


def judged(*arguments: str) -> tuple[float, dict[str, Any]]:
    """Wall seconds of a run of pytest, and its report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        seconds = timed("-m", "pytest", "-p", "no:cacheprovider", "--conform-report", str(path), *arguments)
        return seconds, json.loads(path.read_text())


def whole() -> Iterator[str]:
    """The run of BD3LM beside its floor."""
    timed("-c", FLOOR), judged("--adapter", "bd3lm")
    pairs = []
    for turn in range(PAIRS):
        first, second = (timed("-c", FLOOR), judged("--adapter", "bd3lm")) if turn % 2 else (None, None)
        if second is None:
            second, first = judged("--adapter", "bd3lm"), timed("-c", FLOOR)
        pairs.append((first, second[0]))
        report = second[1]
    ratios = sorted(run / floor for floor, run in pairs)
    floor, run = (statistics.median(side) for side in zip(*pairs, strict=True))
    yield "## The whole run over its floor\n"
    yield (
        f"`pytest --adapter bd3lm` takes {run:.1f} s where the floor (import, boot, one forward) is {floor:.1f} s: "
        f"{statistics.median(ratios):.2f} times the floor ({ratios[0]:.2f} to {ratios[-1]:.2f} in {PAIRS} pairs; "
        f"target at most {WHOLE}: {_met(statistics.median(ratios) <= WHOLE)}).\n"
    )
    measured = report["measurements"]
    yield f"Forwards and backwards: {', '.join(f'{n} {kind}' for kind, n in measured['forwards'].items())}.\n"
    yield "| family | seconds | forwards and backwards |\n|---|---|---|"
    for family, seconds in measured["seconds"].items():
        counts: dict[str, int] = {}
        for node, case in measured["cases"].items():
            if node.startswith(f"conformance.{family}::"):
                for kind, count in case.get("forwards", {}).items():
                    counts[kind] = counts.get(kind, 0) + count
        yield f"| {family} | {seconds:.2f} | {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))} |"
    yield "\nThe first case, in loading, carries the import of the libraries and the first boot.\n"


def layers() -> Iterator[str]:
    """The same for deeper models."""
    from conformance import checkpoint
    from conformance.adapters.bd3lm import SPEC

    yield "## Deeper models\n"
    yield "| layers | floor | whole run | above the floor | over that of 2 layers |\n|---|---|---|---|---|"
    fixture = checkpoint.fixture_folder(str(SPEC.fixture))
    above: dict[int, float] = {}
    for depth in LAYERS:
        folder = str(checkpoint.materialise(fixture, SPEC, {"n_blocks": depth}))
        command = ("--adapter", "bd3lm", "--checkpoint", folder, "--trust-remote-code")
        floor, run = (
            statistics.median(each() for _ in range(3))
            for each in (lambda: timed("-c", FLOOR, folder), lambda: judged(*command)[0])  # noqa: B023
        )
        above[depth] = run - floor
        yield f"| {depth} | {floor:.1f} | {run:.1f} | {above[depth]:.1f} | {above[depth] / above[LAYERS[0]]:.2f} |"
    growth, linear = above[LAYERS[-1]] / above[LAYERS[0]], LAYERS[-1] / LAYERS[0]
    yield f"\nTarget: less than linear, under {linear:.0f} at {LAYERS[-1]} layers: {_met(growth < linear)}.\n"


def workers() -> Iterator[str]:
    """Every adapter, shared out or not."""
    alone, shared = (judged("--adapter", "all", "-n", count)[0] for count in ("0", "2"))
    yield "## Every adapter\n"
    yield (
        f"`pytest --adapter all` takes {alone:.0f} s, with `-n 2` {shared:.0f} s: {shared / alone:.2f} of it "
        f"(target at most {SHARE} on two cores: {_met(shared / alone <= SHARE)}). An adapter is never cut in two, as "
        "each worker boots it anew.\n"
    )


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _machine() -> str:
    cpu = platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "transformer-lens"))
    return f"{os.cpu_count()} cores ({cpu}), Python {platform.python_version()}, {versions}"


PARTS: dict[str, Callable[[], Iterator[str]]] = {"whole": whole, "layers": layers, "workers": workers}


def main(wanted: Sequence[str]) -> None:
    """Print some parts, or write the page."""
    if stray := [name for name in wanted if name not in PARTS]:
        raise SystemExit(f"unknown part {stray[0]!r}; known: {', '.join(PARTS)}")
    lines = [line for name, part in PARTS.items() if not wanted or name in wanted for line in part()]
    text = "\n".join(lines)
    print(text)
    if not wanted:
        write_text(PAGE, f"{HEAD.format(machine=_machine())}\n{text}")


if __name__ == "__main__":
    main(sys.argv[1:])
