"""What the proof costs on a model of real size: `python ci/cost_study.py [FAMILY ...] [FIELD=VALUE ...]`.

Judges families of requirements, by default hooks, cache, gradients and interventions, with the BD3LM spec on random
weights in the sizes of the released model at 128 tokens (`model_length=1024` is the released length). Prints, layout by
layout and for what is judged once per adapter, forwards and backwards, the time in units of one reference forward of
the same batch, and the peak of the process's memory. Targets for the default families: 40 forwards of the subject, 20
of reference and oracle, 4 backwards each, 100 units, 12 GiB; for loading, mask and parity at 1024 tokens: 16 GiB.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conformance import checkpoint, ledger
from conformance.adapters.bd3lm import SPEC
from conformance.finding import MET
from conformance.judge import Judge
from conformance.offline import offline
from conformance.requirement import Requirement, requirements
from conformance.subject import Boot

SURFACE = ("hooks", "cache", "gradients", "interventions")
REAL = {
    "hidden_dim": 768,
    "n_blocks": 12,
    "n_heads": 12,
    "vocab_size": 50_258,
    "model_length": 128,
    "block_size": 4,
    "cond_dim": 128,
}


@dataclass
class Study:
    """A judge at work, its model, and the seconds of one forward of the reference."""

    judge: Judge
    unit: float = 1.0
    unmet: int = 0

    def tell(self, wanted: Sequence[Requirement], layout: str | None) -> None:
        """Judge some requirements, and print what each cost that cost anything."""
        forwards = self.judge.boot.forwards
        forwards.clear()
        spent, most = 0.0, _peak()
        print(f"{layout or 'once'}, before: {most:.1f} GiB")
        for required in wanted:
            started = time.perf_counter()
            outcome = self.judge.verdict(required, layout)
            spent += (seconds := time.perf_counter() - started)
            bad = outcome.verdict not in MET
            self.unmet += bad
            grown, most = _peak() - most, _peak()
            if seconds > self.unit or grown > 0.1 or bad:
                print(
                    f"  {seconds / self.unit:6.1f} units {grown:+5.1f} GiB  {required.id} {outcome.verdict}", flush=True
                )
                for line in [finding.line() for finding in outcome.findings[:3]] or [outcome.trace] * bad:
                    print(f"          {line}")
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(forwards.items()))
        print(f"{layout or 'once'}: {spent / self.unit:.0f} x {self.unit:.2f} s; {counts}", flush=True)


def main(families: Sequence[str], fields: dict[str, int]) -> int:
    """Print the study; 1 when a requirement is not met."""
    fixture = checkpoint.fixture_folder(str(SPEC.fixture))
    boot = Boot(SPEC, checkpoint.materialise(fixture, SPEC, {**REAL, **fields}), trusted=True)
    registry = requirements()
    study = Study(Judge(boot, ledger.load(SPEC, registry), registry))
    wanted = [required for required in registry.values() if required.family in families]
    for layout, pair in boot.pairs.items():
        study.unit = statistics.median(_seconds(pair.reference_logits) for _ in range(3))
        study.judge.verdict(registry["loading/runs"], layout)
        study.tell([required for required in wanted if required.per_layout], layout)
    study.tell([required for required in wanted if not required.per_layout], None)
    print(f"peak memory: {_peak():.1f} GiB")
    return int(study.unmet > 0)


def _peak() -> float:
    """The most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    given = sys.argv[1:]
    fields = dict(argument.split("=") for argument in given if "=" in argument)
    with offline():
        raise SystemExit(
            main(
                [argument for argument in given if "=" not in argument] or SURFACE,
                {name: int(value) for name, value in fields.items()},
            )
        )
