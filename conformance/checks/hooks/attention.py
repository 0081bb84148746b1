"""Attention: scores and pattern, where a bridge shows them. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...pair import Pair


@requirement("hooks/pattern", level=MUST, needs=("hooks/shapes",))
def pattern(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """Where they fire, `hook_pattern` MUST be the softmax of `hook_attn_scores`, add up to one for every query, and be
    exactly 0 wherever the layout says that a query does not attend.

    A pattern that leaks past the mask by 1e-9, or scores that lack their scale or mask, look right in a picture and
    are wrong in a patch (TransformerLens #1692: masked scores that no test for -inf finds).
    """
    import torch

    from ...compare import WITNESS, close

    registry, seen = pair.boot.bridge.hook_dict, pair.observed
    shown = {name: seen.joined(point.name) for name, point in registry.items() if point.name in seen.taps}
    patterns = [name for name in shown if name.endswith(".hook_pattern")]
    evidence.facts["patterns shown"] = len(patterns)
    # Keys of no token come first, and everyone sees them.
    attends = torch.nn.functional.pad(pair.relation, (pair.boot.spec.slots, 0), value=True)
    asked = attends.any(dim=-1)
    for name in patterns:
        weights, scores = shown[name], shown.get(name.replace("hook_pattern", "hook_attn_scores"))
        leak = weights.masked_fill(attends, 0).abs().max().item()
        if leak:
            yield Finding("attends", name, got=f"{leak:.2g}", want="0 where the layout forbids it", case="masked")
        allowed = max(pair.allowed(name), WITNESS.of(torch.ones(1)))
        total = weights.double().sum(dim=-1)[..., asked]
        yield from close(name, total, torch.ones_like(total), allowed, case="sum over keys")
        if scores is not None:
            want = scores.double().softmax(dim=-1)[..., asked, :]
            yield from close(name, weights[..., asked, :], want, allowed, case="softmax of the scores")
