"""A small adapter repository with seven commits upon one base, and what the gate must say of each."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import conformance.adapters

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
    git(top, "init", "--quiet", "--initial-branch=main")
    commits = {"base": _commit(top, "base")}
    for name, change in CHANGES.items():
        git(top, "checkout", "--quiet", "--detach", commits["base"])
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
    git(top, "add", "--all")
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    git(top, *author, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(top, "rev-parse", "HEAD")


def git(top: Path, *arguments: str) -> str:
    done = subprocess.run(("git", "-C", str(top), *arguments), check=True, capture_output=True, text=True)
    return done.stdout.strip()
