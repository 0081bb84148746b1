"""Speed of head against base: two processes on one core that take turns, forward by forward.

Processes that float between cores differ by 9 % from themselves; on one core it is 1 to 3 %, and what is left is where
each happens to lie in memory. So several pairs of processes are asked, and the middle one is believed.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .runs import Runner
from .tree import Tree

if TYPE_CHECKING:
    from ..timing import Ratio

CEILING = 1.075
"""How much slower head may be: 7.5 %, which a change that does nothing never reaches and one of 10 % hardly misses."""

PAIRS = 3
"""Pairs of processes whose median decides; the third is not started when two agree."""


MEASUREMENTS = 2
"""One in many falls into a bad moment of the machine; what is slow in so many in a row is slow."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured: for each layout head over base, one ratio for each pair of processes; or why nothing was."""

    ratios: dict[str, tuple[float, ...]]
    slow: tuple[str, ...] = ()
    unmeasured: str = ""

    def median(self, layout: str) -> float:
        """The ratio that decides."""
        return statistics.median(self.ratios[layout])


Process = subprocess.Popen[Any]


class CannotTime(Exception):
    """Why two revisions cannot be timed against one another."""


def compared(runner: Runner, base: Tree, head: Tree, adapters: tuple[str, str], folder: Path) -> Speed:
    """Head's forward against base's in every layout; `adapters` are base's and head's `module:SPEC`."""
    if not hasattr(os, "sched_setaffinity"):
        return Speed({}, unmeasured="this system cannot pin two processes to one core; times would tell nothing")
    try:
        for _ in range(MEASUREMENTS):
            found = _measured(runner, base, head, adapters, folder)
            if not found.slow:
                break
        return found
    except CannotTime as error:
        return Speed({}, unmeasured=str(error))


def _measured(runner: Runner, base: Tree, head: Tree, adapters: tuple[str, str], folder: Path) -> Speed:
    told: list[dict[str, Ratio]] = []
    with _process(runner, base, adapters[0], folder) as one, _process(runner, head, adapters[1], folder) as two:
        while len(told) < PAIRS and not _agreed(told):
            told.append(_boots(one, two))
    by_layout = _by_layout(told)
    slow = tuple(name for name, each in by_layout.items() if sum(ratio.over for ratio in each) * 2 > len(each))
    return Speed({name: tuple(ratio.median for ratio in each) for name, each in by_layout.items()}, slow)


def _agreed(told: Sequence[dict[str, Ratio]]) -> bool:
    """Whether no further pair can change what the median says of any layout."""
    by_layout = _by_layout(told).values()
    return len(told) > PAIRS // 2 and all(len({ratio.over for ratio in each}) == 1 for each in by_layout)


def _boots(base: Process, head: Process) -> dict[str, Ratio]:
    """The ratio in every layout of one boot on either side."""
    for process in (base, head):
        _say(process, "boot")
    about = [_answer(process) for process in (base, head)]
    for side, answer in zip(("base", "head"), about, strict=True):
        if "cannot" in answer:
            raise CannotTime(f"{side} does not run at the size for timing: {answer['cannot']}")
    if about[0] != about[1]:
        raise CannotTime("sizes or inputs of the spec's bench changed, so that no forward is the other's like")
    ratios = {layout: _ratio(base, head, layout) for layout in about[0]["inputs"]}
    for process in (base, head):
        _say(process, "end")
    return ratios


def _by_layout(told: Sequence[dict[str, Ratio]]) -> dict[str, list[Ratio]]:
    return {layout: [each[layout] for each in told] for layout in told[0]} if told else {}


def _ratio(base: Process, head: Process, layout: str) -> Ratio:
    """Head over base in one layout, from pairs of forwards that change their order, by the rule of `timing`."""
    from ..timing import STAGES, judge

    logs: list[float] = []
    for stage in STAGES:
        while len(logs) < stage:
            order = (base, head) if len(logs) % 2 else (head, base)
            seconds = {process: _asked(process, layout) for process in order}
            logs.append(math.log(seconds[head] / seconds[base]))
        if (ratio := judge(logs, CEILING)) is not None:
            return ratio
    raise AssertionError("the last stage decides")


@contextmanager
def _process(runner: Runner, tree: Tree, adapter: str, folder: Path) -> Iterator[Process]:
    core = max(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "conformance.gate.stopwatch", adapter, str(core)]
    command += ["--trust-remote-code"] if runner.trust else []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = runner.start(command, tree, folder, **pipes)
    try:
        yield process
    finally:
        runner.ended(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _asked(process: Process, layout: str) -> float:
    _say(process, layout)
    answer = _answer(process)
    if not isinstance(answer, float):
        raise CannotTime(f"a forward in {layout} failed while it was timed: {answer['cannot']}")
    return answer


def _say(process: Process, line: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise CannotTime("a process ended while it was timed") from None


def _answer(process: Process) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise CannotTime("a process ended while it was timed")
    return json.loads(line)
