"""Whatever a bridge does, it is a finding against the bridge: the suite itself never breaks down over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.finding import Verdict
from conformance.mutants.surgery import advertise, around, around_firing, on_bridge
from conformance.requirement import requirements


def raises(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("division by zero")


def answer(method: str, change: Callable[..., Any]) -> Callable[[Any], None]:
    """A bridge whose method returns `change` of what it should."""
    return lambda bridge: around(bridge, method, lambda inner, *a, **k: change(inner(*a, **k)))


def tires(bridge: Any) -> None:
    calls: list[bool] = []

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls.append(True)
        return inner(*args, **kwargs) if len(calls) < 12 else raises()

    around(bridge, "forward", forward)


def firing(name: str, fire: Callable[..., Any]) -> Callable[[Any], None]:
    return lambda bridge: around_firing(bridge, name, fire)


WILD = {
    "does not boot": raises,
    "returns nothing": answer("forward", lambda logits: None),
    "returns a tuple": answer("forward", lambda logits: (logits,)),
    "returns one row": answer("forward", lambda logits: logits[0]),
    "returns nan": answer("forward", lambda logits: logits * float("nan")),
    "fails after a while": tires,
    "has no hooks": lambda bridge: advertise(bridge, lambda registry: {}),
    "has no stream": lambda bridge: advertise(bridge, lambda r: {n: p for n, p in r.items() if "resid" not in n}),
    "refuses every hook": lambda bridge: around(bridge, "check_hooks_to_add", raises),
    "has no hooks()": lambda bridge: around(bridge, "hooks", raises),
    "does not cache": lambda bridge: around(bridge, "run_with_cache", raises),
    "caches nothing": answer("run_with_cache", lambda got: None),
    "caches without logits": answer("run_with_cache", lambda got: (None, got[1])),
    "caches no tensors": answer("run_with_cache", lambda got: (got[0], dict.fromkeys(got[1]))),
    "caches something else": answer("run_with_cache", lambda got: (got[0], {"other": got[0]})),
    "generates text": lambda bridge: around(bridge, "generate", lambda *_, **__: "text"),
    "has no mask": lambda bridge: delattr(bridge.original_model.backbone, "mask"),
    "fires on a stream twice": firing("blocks.0.hook_in", lambda fire, tensor: fire(fire(tensor))),
    "fires with two shapes": firing(
        "blocks.0.ln1.hook_scale", lambda fire, tensor: (fire(tensor[..., 0]), fire(tensor))[1]
    ),
    "fires with a number": firing("blocks.0.ln1.hook_scale", lambda fire, tensor: (fire(tensor.sum()), tensor)[1]),
    "is silent on a stream": firing("blocks.1.hook_out", lambda fire, tensor: tensor),
    "lost a component": lambda bridge: bridge.blocks[0]._modules.pop("ln2"),
}


TIMED = {required.id for required in requirements().values() if "stopwatch" in required.parameters}
TIMED |= {"throughput/baseline", "throughput/growth"}


@pytest.mark.parametrize("name", WILD)
def test_a_wild_bridge_is_to_blame(name: str, miniature: Path) -> None:
    from conformance import ledger
    from conformance.judge import Boot, Judge, Tools

    registry = requirements()
    boot = Boot(SPEC, miniature, trusted=True)
    on_bridge(boot, WILD[name])
    judge = Judge(boot, ledger.load(SPEC, registry), registry)
    outcomes = [
        judge.verdict(required, layout, Tools(snapshot=lambda lines: iter(())))
        for required in registry.values()
        # What is timed is a larger model, which is as wild.
        if not required.id.endswith("ratio")
        for layout in (boot.pairs if required.per_layout else [None])
    ]
    assert [outcome.trace for outcome in outcomes if outcome.verdict is Verdict.ERROR] == []
    assert any(outcome.verdict is Verdict.FAIL for outcome in outcomes)
