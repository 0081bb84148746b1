"""Compatibility mode: weights that are processed for analysis are still the same model. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...subject import Boot

MODE = "compatibility mode"


@requirement("loading/processing-flags", level=MUST, needs=("loading/runs",))
def processing_flags(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Each processing flag of compatibility mode MUST keep the log-probabilities, also when set twice, or be refused.

    Folding a norm is exact only where nothing stands between norm and weights, and centring only where nothing stands
    between weights and stream; conditioning does, and the model that is analysed is another one.
    """
    from ...compare import PATHS, close, exact
    from ...pair import SubjectRaised, blamed_on_subject

    small = boot.small
    for flag in flags(type(boot.bridge)):
        with blamed_on_subject():
            bridge = small.boot_again()
        asked = {name: name == flag for name in flags(type(bridge))}
        try:
            bridge.enable_compatibility_mode(**asked)
        except Exception as error:
            evidence.refused |= _refused(error, flag)
            if not _refused(error, flag):
                yield Finding("unclear-error", flag, got=type(error).__name__, want=f"an error on {flag} or {MODE}")
            continue
        once = {}
        for pair in small.pairs.values():
            try:
                logits = pair.call(bridge=bridge)
                # A forward that differs the second time anyway is not the flag's doing.
                once[pair.layout.name] = pair.call(bridge=bridge)
            except SubjectRaised as error:
                yield Finding("raised", flag, got=type(error.__cause__).__name__, want="logits", case=pair.layout.name)
                continue
            got, want = (each.log_softmax(dim=-1) for each in (logits, pair.plain))
            yield from close(flag, got, want, pair.allowed("logits", PATHS), case=pair.layout.name)
        bridge.enable_compatibility_mode(**asked)
        for layout, logits in once.items():
            yield from exact(flag, small.pairs[layout].call(bridge=bridge), logits, case=f"{layout}, set twice")


def flags(kind: Any) -> list[str]:
    """Flags of compatibility mode that say how weights are processed."""
    mode = inspect.signature(kind.enable_compatibility_mode).parameters
    return [name for name in inspect.signature(kind.process_weights).parameters if name in mode and name != "self"]


def _refused(error: Exception, flag: str) -> bool:
    """Whether an error is meant as a refusal, of the flag or of the whole mode."""
    return any(name in str(error) for name in (flag, MODE, "enable_compatibility_mode"))
