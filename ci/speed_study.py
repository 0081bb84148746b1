"""How fast a bridge is beside its model at a real size: idle, and with attention's scores and pattern observed.

    python ci/speed_study.py [ADAPTER] [FIELD=VALUE ...]

12 layers of width 768, two halves of 128 tokens, one thread; interleaved pairs, median ratio and 98 % interval.
Targets: 1.05 while no one listens, 2 while scores and patterns are observed.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from conformance import checkpoint, timing
from conformance.adapters import resolve
from conformance.pair import Pair
from conformance.subject import Boot

SIZE: dict[str, object] = {
    "hidden_dim": 768,
    "n_blocks": 12,
    "n_heads": 12,
    "model_length": 128,
    "block_size": 4,
    "cond_dim": 128,
}


def main(arguments: list[str]) -> None:
    """Print one line per layout and state of the hooks."""
    fields = dict(argument.split("=") for argument in arguments if "=" in argument)
    (spec,) = resolve([next((argument for argument in arguments if "=" not in argument), "bd3lm-reference")])
    size = {**SIZE, **{name: int(value) for name, value in fields.items()}}
    folder = checkpoint.materialise(checkpoint.fixture_folder(str(spec.fixture)), spec, size)
    boot = Boot(spec, folder, trusted=True)
    for layout, pair in boot.pairs.items():
        hooks = [name for name in boot.bridge.hook_dict if name.endswith(("hook_attn_scores", "hook_pattern"))]
        report(f"{layout}, {pair.length} tokens, idle", pair, 1.05)
        with boot.bridge.hooks(fwd_hooks=[(name, look) for name in hooks]):
            report(f"{layout}, {pair.length} tokens, {len(hooks)} scores and patterns observed", pair, 2.0)


def look(tensor: torch.Tensor, hook: Any) -> None:
    """Observe, and keep nothing."""


def report(what: str, pair: Pair, ceiling: float) -> None:
    """Time the bridge against its model, and say how it went."""
    row = pair.row
    found = timing.paired_ratio(lambda: pair.call(row), lambda: pair.reference_logits(row), ceiling)
    verdict = "over" if found.over else "under"
    print(f"{what}: {found.median:.3f} ({found.low:.3f} to {found.high:.3f}, {found.pairs} pairs), {verdict} {ceiling}")


if __name__ == "__main__":
    main(sys.argv[1:])
