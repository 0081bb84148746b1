"""The gate on five commits of a small adapter repository, again and again: every verdict and how long it took.

    python ci/gate_study.py --times 10 --busy

The repository is made anew in a temporary folder. `--busy` keeps another core at work all the while.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import conformance.adapters
from conformance.gate.runs import kept_as

PYPROJECT = """
[project]
name = "mine"
version = "0.1"

[project.entry-points."conformance.adapters"]
mine = "mine.adapter:SPEC"
"""

ADAPTER = '''
"""A third party's adapter: BD3LM's, in the layout of its sampler."""

from dataclasses import replace

from conformance.adapters.bd3lm import SAMPLE
from conformance.adapters.bd3lm import SPEC as BD3LM
from transformer_lens.model_bridge.supported_architectures.bd3lm import BD3LMArchitectureAdapter

from .loading import loaded

MODULATION = "adaln_modulation"


def renamed(name):
    """A name of BD3LM's as it is here."""
    return name.replace("adaln_modulation", MODULATION)


def forward(params, config, inputs, tap):
    """BD3LM's equations under this adapter's names."""
    from conformance.oracles.bd3lm import forward

    return forward(params, config, inputs, lambda name, value: tap(renamed(name), value))


class Adapter(BD3LMArchitectureAdapter):
    """BD3LM's adapter."""

    def __init__(self, cfg):
        super().__init__(cfg)
        parts = self.component_mapping["blocks"].submodules
        named = {MODULATION if name == "adaln_modulation" else name: part for name, part in parts.items()}
        parts.clear()
        parts.update(named)

    def prepare_model(self, hf_model):
        super().prepare_model(hf_model)
        loaded(hf_model)


SPEC = replace(
    BD3LM,
    name="mine",
    module=__name__,
    adapter=Adapter,
    layouts=(SAMPLE,),
    points={renamed(point): path for point, path in BD3LM.points.items()},
    oracle=f"{__name__}:forward",
    branches=tuple(
        replace(branch, gate=replace(branch.gate, hook=renamed(branch.gate.hook))) for branch in BD3LM.branches
    ),
    variants={"conditioned on noise": BD3LM.variants["conditioned on noise"]},
    limits=(),
    halves=None,
    # So high that only a comparison can find a forward slow.
    ceilings=dict.fromkeys(BD3LM.ceilings, 9.0),
    {fields}
)
'''

LOADING = '''
"""What is done to a model once it is loaded."""


def loaded(model):
    """Nothing yet."""
'''

BREAKS_A_MASK = '''
"""What is done to a model once it is loaded."""


def loaded(model):
    """A `<` for a `<=`: nobody sees itself."""
    model.backbone.mask = model.backbone.mask.clone().fill_diagonal_(False)
'''

SLOW = '''
"""What is done to a model once it is loaded."""

from itertools import dropwhile
from time import process_time


def loaded(model):
    """Every forward takes 15 % longer, whatever the machine, by no operator and hardly any call more."""
    forward = model.forward

    def slow(*args, **kwargs):
        start = process_time()
        out = forward(*args, **kwargs)
        end = start + 1.15 * (process_time() - start)
        # Reads the clock until it shows more than that.
        next(dropwhile(end.__gt__, iter(process_time, None)))
        return out

    model.forward = slow
'''

WITHOUT_REASON = """
[[deviation]]
requirement = "parity/logits"
at = "logits"
finding = "value-mismatch"
"""

COMMITS: dict[str, tuple[str, ...]] = {
    "good": (),
    "breaks a mask": ("new-finding", "lost"),
    "slows the forward": ("slowdown",),
    "edits a comment": (),
    "renames a hook": ("hook-tree", "new-finding"),
    "renames a hook, and its snapshot": (),
    "declares without a reason": ("ledger",),
}
"""What each commit, made upon the same base, must be told: rules that it fails, none where it may pass."""

RENAMED = "modulation"
"""What `adaln_modulation` is called afterwards."""


def build(top: Path, fields: str = "") -> dict[str, str]:
    """Make the repository; the hash of every commit by name, that of their common base as `base`.

    `fields` are further ones of the spec.
    """
    home = top / "src" / "mine"
    home.mkdir(parents=True)
    _write(top / "pyproject.toml", PYPROJECT)
    _write(top / "README.md", "Mine.")
    for name, text in {
        "__init__": "",
        "adapter": ADAPTER.replace("    {fields}\n", fields),
        "loading": LOADING,
    }.items():
        _write(home / f"{name}.py", text)
    shipped = Path(conformance.adapters.__file__).parent
    _write(home / "mine.deviations.toml", _ledger((shipped / "bd3lm.deviations.toml").read_text()))
    for path in sorted((shipped / "snapshots" / "bd3lm").glob("*.txt")):
        if "-train" not in path.name:
            text = re.sub(r"^ +train: .*\n", "", path.read_text(), flags=re.MULTILINE)
            _write(home / "snapshots" / "mine" / path.name.replace("[bd3lm", "[mine"), text)
    _git(top, "init", "--quiet", "--initial-branch=main")
    commits = {"base": _commit(top, "base")}
    for name, change in CHANGES.items():
        _git(top, "checkout", "--quiet", "--detach", commits["base"])
        change(home)
        commits[name] = _commit(top, name)
    return commits


def _ledger(text: str) -> str:
    """BD3LM's declarations, as far as they are about what this adapter has."""
    head, *entries = text.split("[[deviation]]")
    kept = [e for e in entries if 'layouts = ["train"]' not in e and '"parity/variants"' not in e]
    return head + "".join("[[deviation]]" + re.sub(r"layouts = .*\n", "", entry) for entry in kept)


def _good(home: Path) -> None:
    """A helper that nothing needs yet."""
    _append(home / "loading.py", "\n\ndef layers(model):\n    return len(model.backbone.blocks)\n")


def _rename(home: Path) -> None:
    """Other hook names, in the adapter and in its ledger."""
    _replace(home / "adapter.py", 'MODULATION = "adaln_modulation"', f'MODULATION = "{RENAMED}"')
    _replace(home / "mine.deviations.toml", "{layer}.adaln_modulation", "{layer}." + RENAMED)


def _rename_all(home: Path) -> None:
    """The same, and in its snapshots."""
    _rename(home)
    for path in (home / "snapshots" / "mine").iterdir():
        path.write_text(path.read_text().replace("adaln_modulation", RENAMED))


CHANGES: dict[str, Callable[[Path], None]] = {
    "good": _good,
    "breaks a mask": lambda home: _write(home / "loading.py", BREAKS_A_MASK),
    "slows the forward": lambda home: _write(home / "loading.py", SLOW),
    "edits a comment": lambda home: _append(home / "loading.py", "# To do: nothing.\n"),
    "renames a hook": _rename,
    "renames a hook, and its snapshot": _rename_all,
    "declares without a reason": lambda home: _append(home / "mine.deviations.toml", WITHOUT_REASON),
}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.lstrip("\n"), encoding="utf-8")


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{path.name} does not say {old!r}")
    path.write_text(text.replace(old, new), encoding="utf-8")


def _commit(top: Path, message: str) -> str:
    _git(top, "add", "--all")
    _git(
        top, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "--allow-empty", "-m", message
    )
    return _git(top, "rev-parse", "HEAD")


def _git(top: Path, *arguments: str) -> str:
    done = subprocess.run(("git", "-C", str(top), *arguments), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    """Hold the gate on every commit, time after time; exit status 1 if any answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="rounds; base is judged in the first, heads in every one")
    parser.add_argument("--busy", action="store_true", help="keep one core at work all the while")
    parser.add_argument("--only", action="append", choices=COMMITS, help="these commits alone")
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="gate-study-") as scratch, _work(given.busy):
        top = Path(scratch)
        commits = build(top / "repository")
        kept = kept_as(_git(top / "repository", "rev-parse", f"{commits['base']}^{{tree}}"), "mine.adapter:SPEC", False)
        for number in range(1, given.times + 1):
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
