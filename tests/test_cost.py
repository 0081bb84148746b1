"""What the hook surface costs: counted in forwards, bounded, and the same however many layers a model has."""

from __future__ import annotations

from collections import Counter

import pytest

from conformance import checkpoint, ledger
from conformance.adapters import bd3lm, bd3lm_reference
from conformance.finding import MET
from conformance.requirement import requirements
from conformance.spec import AdapterSpec

FAMILIES = ("hooks", "cache", "gradients", "interventions")


def spent(spec: AdapterSpec, layers: int) -> list[Counter[str]]:
    """Forwards and backwards of the four families, layout by layout, or what is spent once per adapter."""
    from conformance.judge import Judge
    from conformance.subject import Boot

    folder = checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), spec, {"n_blocks": layers})
    boot, registry = Boot(spec, folder, trusted=True), requirements()
    judge = Judge(boot, ledger.load(spec, registry), registry)
    counts = []
    for layout in boot.pairs:
        judge.verdict(registry["loading/runs"], layout)
        boot.forwards.clear()
        wanted = [r for r in registry.values() if r.family in FAMILIES]
        for required in [r for r in wanted if r.per_layout]:
            assert judge.verdict(required, layout).verdict in MET, required.id
        counts.append(boot.forwards.copy())
    boot.forwards.clear()
    for required in [r for r in wanted if not r.per_layout]:
        assert judge.verdict(required, None).verdict in MET, required.id
    return [*counts, boot.forwards.copy()]


@pytest.mark.parametrize("spec", [bd3lm.SPEC, bd3lm_reference.SPEC], ids=str)
def test_the_hook_surface_costs_a_fixed_number_of_forwards(spec: AdapterSpec) -> None:
    few, many = spent(spec, 2), spent(spec, 12)
    assert few == many
    *layouts, once = few
    for count in layouts:
        assert count["subject"] <= 40
        assert count["reference"] + count["oracle"] <= 20
        assert count["subject backward"] <= 4
        assert count["reference backward"] + count["oracle backward"] <= 4
    # What is about the adapter and not about a layout is run in one of them.
    assert once <= Counter({"subject": 9})
