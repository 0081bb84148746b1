"""Compatibility mode: without processing it is a change of names. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...pair import Pair
    from ...subject import Boot
    from ...taps import Recording

MODE = "enable_compatibility_mode"


@requirement("parity/compatibility", level=MUST, needs=("hooks/fires",))
def compatibility(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """`enable_compatibility_mode(no_processing=True)` MUST change nothing, called once or twice: the same hooks fire as
    often, with the same bits, and the logits are the same; or it is refused by an error that names it.

    Old analysis code switches it on first; a hook that goes silent then, or a scale that is applied once more at every
    run of a cell, changes its figures (TransformerLens PR #1659, PR #1770).
    """
    from ...pair import SubjectRaised, blamed_on_subject

    small = boot.small
    with blamed_on_subject():
        bridge = small.boot_again()
    names = set(bridge.hook_dict)
    before = {layout: _shown(pair, bridge) for layout, pair in small.pairs.items()}
    for case in ("called once", "called twice"):
        try:
            with blamed_on_subject():
                getattr(bridge, MODE)(no_processing=True)
        except SubjectRaised as error:
            evidence.refused = "compatibility mode" in str(error).replace("_", " ")
            if not evidence.refused:
                yield Finding("unclear-error", MODE, got=str(error), want=f"an error that names {MODE}", case=case)
                return
        gone = names - set(bridge.hook_dict)
        for name in sorted(gone):
            yield Finding("gone", name, got="no such hook", want="the hook from before", case=case)
        for layout, pair in small.pairs.items():
            before[layout].drop(gone)
            yield from _changed(before[layout], _shown(pair, bridge), f"{case}, {layout}")


def _shown(pair: Pair, bridge: Any) -> Recording:
    """One forward with an observer at every hook that there is, by the name under which the registry has it.

    In compatibility mode a hook point itself goes by an alias.
    """
    from torch import Tensor

    from ...pair import SubjectRaised, blamed_on_subject
    from ...taps import Recording, run_hooked

    shown, registry = Recording(), bridge.hook_dict
    entries = {id(registry[name]): name for name in pair.names if name in registry}

    def observe(tensor: Any, hook: Any) -> None:
        shown.add(entries[id(hook)], tensor)

    with blamed_on_subject():
        shown.logits = run_hooked(partial(pair.guarded, bridge), bridge, entries.values(), observe)
    if not isinstance(shown.logits, Tensor):
        raise SubjectRaised(f"the forward returned {type(shown.logits).__name__}, no tensor")
    return shown


def _changed(before: Recording, after: Recording, case: str) -> Iterator[Finding]:
    from ...compare import exact

    for name, calls in before.taps.items():
        again = after.taps.get(name, [])
        if len(again) != len(calls):
            yield Finding("firings", name, got=f"{len(again)} firings", want=f"{len(calls)}", case=case)
            continue
        for got, want in zip(again, calls, strict=True):
            yield from exact(name, got, want, case=case)
    yield from exact("logits", after.logits, before.logits, case=case)
