"""Baseline: what is slow only where overhead dominates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import mutant
from .ratios import LONG, slow

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="throughput/baseline")
def slow_on_small_models(boot: Boot) -> None:
    """A forward on a few tokens waits in Python; at a real size that is nothing, and most experiments are small."""
    from ... import timing, workloads

    # No machine that this runs on need have a baseline: the good adapter's is taken here.
    good = workloads.of_boot(type(boot)(boot.spec, boot.folder, boot.trusted))["forward"]
    ratio = timing.paired_ratio(good.subject, good.reference, float("inf")).median
    boot.__dict__["ratios"] = {"forward": ratio}
    slow(boot, "forward", lambda tokens: tokens <= LONG)
