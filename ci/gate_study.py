"""The gate on the commits of a small adapter repository, again and again: every verdict and how long it took.

    python ci/gate_study.py --times 10 --busy
    python ci/gate_study.py --times 10 --busy --speed

The repository is made anew in a temporary folder. `--busy` keeps another core at work all the while; `--speed` holds
nothing but the comparison of speed, the one part that could say another thing each time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gate_repository import COMMITS, build, git

from conformance.gate.repository import Repository
from conformance.gate.runs import Runner, kept_as
from conformance.gate.speed import compared
from conformance.gate.tree import Tree


def main() -> int:
    """Hold the gate on every commit, time after time; exit status 1 if any answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="rounds; base is judged in the first, heads in every one")
    parser.add_argument("--busy", action="store_true", help="keep one core at work all the while")
    parser.add_argument("--only", action="append", choices=COMMITS, help="these commits alone")
    parser.add_argument("--speed", action="store_true", help="compare speed alone, judge nothing")
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="gate-study-") as scratch, _work(given.busy):
        top = Path(scratch)
        commits = build(top / "repository")
        kept = kept_as(git(top / "repository", "rev-parse", f"{commits['base']}^{{tree}}"), "mine.adapter:SPEC", False)
        for number in range(1, given.times + 1):
            if given.speed:
                wrong += _timed(top, commits, number)
                continue
            cache = top / f"cache-{number}"
            cache.mkdir()
            if number > 1:
                shutil.copytree(top / "cache-1" / kept, cache / kept)
            for name in given.only or COMMITS:
                rules, seconds, told = _held(top, commits, name, number)
                right = set(rules) == set(COMMITS[name])
                wrong += not right
                said = f"{'right' if right else 'WRONG'}: {', '.join(rules) or 'pass'}"
                print(f"{number:>3} {name:<34}{said:<40}{seconds:6.1f} s  {told}", flush=True)
    print(f"{wrong} wrong answers")
    return int(bool(wrong))


def _timed(top: Path, commits: dict[str, str], number: int) -> int:
    """Head's speed against base's for the good commit and the slow one; how many answers are wrong."""
    here, wrong = Repository.at(top / "repository"), 0
    for name in ("good", "slows the forward"):
        scratch = top / f"{number}-{name}"
        scratch.mkdir()
        base, head = (
            Tree(here.copy(here.revision("--base", commits[side]), scratch / side), side) for side in ("base", name)
        )
        start = time.monotonic()
        with Runner(scratch) as runner:
            speed = compared(runner, base, head, ("mine.adapter:SPEC", "mine.adapter:SPEC"), scratch)
        right = bool(speed.slow) == (name != "good") and not speed.unmeasured
        wrong += not right
        ratios = ", ".join(f"{ratio:.3f}" for ratio in speed.ratios.get("sample", ())) or speed.unmeasured
        said = f"{'right' if right else 'WRONG'}: {'slow' if speed.slow else 'not slow'}"
        print(f"{number:>3} {name:<20}{said:<18}{time.monotonic() - start:6.1f} s  {ratios}", flush=True)
    return wrong


def _held(top: Path, commits: dict[str, str], name: str, number: int) -> tuple[list[str], float, str]:
    """The rules that one commit failed, the seconds that it took, and the speed that was measured."""
    output = top / f"{number}-{name.replace(' ', '_').replace(',', '')}"
    command = [sys.executable, "-m", "conformance", "gate", "--repository", str(top / "repository"), "--annotations"]
    command += ["--base", commits["base"], "--head", commits[name], "--output", str(output)]
    command += ["--cache", str(top / f"cache-{number}")]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - start
    rules = list(dict.fromkeys(re.findall(r"^::error .*title=conformance of mine%3A ([a-z-]+)", done.stdout, re.M)))
    if done.returncode not in (0, 1) or bool(rules) != bool(done.returncode):
        rules = [f"exit {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}"]
    summary = output / "summary.md"
    speed = re.search(r"`sample` ([0-9.]+)", summary.read_text()) if summary.is_file() else None
    return rules, seconds, f"speed {speed[1]}" if speed else ""


@contextmanager
def _work(wanted: bool) -> Iterator[None]:
    """One process that never rests, on the first core if processes can be bound to one."""
    worker = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) if wanted else None
    if worker:
        worker.start()
    try:
        yield
    finally:
        if worker:
            worker.kill()
            worker.join()


def _spin() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        sum(range(10_000))


if __name__ == "__main__":
    sys.exit(main())
