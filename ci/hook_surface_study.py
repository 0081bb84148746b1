"""What the hook surface costs on a model of real size: `python ci/hook_surface_study.py [FIELD=VALUE ...]`.

Judges hooks, cache, gradients and interventions in every layout of the BD3LM spec, on random weights with the sizes of
the released model at 128 tokens, and prints forwards and backwards per layout, the time in units of one reference
forward of the same batch, and the peak of the process's memory. Targets: 40 forwards of the subject, 20 of reference
and oracle, 4 backwards each, 100 units, 12 GiB.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time

from conformance import checkpoint, ledger
from conformance.adapters.bd3lm import SPEC
from conformance.finding import MET
from conformance.judge import Judge
from conformance.offline import offline
from conformance.requirement import requirements
from conformance.subject import Boot

FAMILIES = ("hooks", "cache", "gradients", "interventions")
REAL = {
    "hidden_dim": 768,
    "n_blocks": 12,
    "n_heads": 12,
    "vocab_size": 50_258,
    "model_length": 128,
    "block_size": 4,
    "cond_dim": 128,
}


def main(fields: dict[str, int]) -> int:
    """Print the study; 1 when a requirement is not met."""
    fixture = checkpoint.fixture_folder(str(SPEC.fixture))
    boot = Boot(SPEC, checkpoint.materialise(fixture, SPEC, {**REAL, **fields}), trusted=True)
    registry, unmet = requirements(), 0
    judge = Judge(boot, ledger.load(SPEC, registry), registry)
    for layout, pair in boot.pairs.items():
        unit = statistics.median(_seconds(pair.reference_logits) for _ in range(3))
        judge.verdict(registry["loading/runs"], layout)
        boot.forwards.clear()
        spent, most = 0.0, _peak()
        print(f"{layout}, before: {most:.1f} GiB")
        for required in registry.values():
            if required.family in FAMILIES:
                started = time.perf_counter()
                outcome = judge.verdict(required, layout)
                spent += (seconds := time.perf_counter() - started)
                unmet += outcome.verdict not in MET
                grown, most = _peak() - most, _peak()
                if seconds > unit or grown > 0.1 or outcome.verdict not in MET:
                    print(
                        f"  {seconds / unit:6.1f} units {grown:+5.1f} GiB  {required.id} {outcome.verdict}", flush=True
                    )
                    for finding in outcome.findings[:3]:
                        print(f"          {finding.line()}")
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(boot.forwards.items()))
        print(f"{layout}: {spent / unit:.0f} x {unit:.2f} s; {counts}")
    print(f"peak memory: {_peak():.1f} GiB")
    return int(unmet > 0)


def _peak() -> float:
    """The most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _seconds(call: object) -> float:
    started = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - started


if __name__ == "__main__":
    given = (argument.split("=") for argument in sys.argv[1:])
    with offline():
        raise SystemExit(main({name: int(value) for name, value in given}))
