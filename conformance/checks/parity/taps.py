"""Logits and taps: what the bridge computes is what the model computes. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...pair import Pair


@requirement("parity/oracle", level=MUST)
def oracle(pair: Pair) -> Iterator[Finding]:
    """The oracle's equations and the remote model MUST agree at the logits and at every module boundary.

    A judge that disagrees with the model may not judge the bridge.
    """
    from ...compare import ORACLE, close

    if not pair.exact.order:
        yield Finding("no-oracle", "oracle", got="no oracle in the spec", want="the equations of the architecture")
        return
    for name in (*pair.reference.taps, "logits"):
        if name not in pair.exact:
            yield Finding("missing", name, got="no tap in the oracle", want="one at every module boundary")
            continue
        got, want = pair.exact.joined(name), pair.reference.joined(name)
        yield from close(name, got, want, ORACLE.of(want) if want.is_floating_point() else 0.0)


@requirement("parity/logits", level=MUST, needs=("parity/oracle",))
def logits(pair: Pair) -> Iterator[Finding]:
    """On one input after another, the bridge's logits MUST equal the reference's, within the rounding of fp32.

    If the logits differ, whatever is studied is another model. Tables that are kept by length or batch are right
    the first time and wrong the next, so other tokens, timesteps and batch sizes follow.
    """
    from ...compare import close

    yield from close("logits", pair.plain, pair.reference.logits, pair.allowed("logits"), detail=pair.divergence)
    for batch, seed in ((3, 1), (2, 2)):
        inputs = pair.draw(batch, seed)
        got, want = pair.call(inputs), pair.reference_logits(inputs)
        yield from close("logits", got, want, 2 * pair.allowed("logits"), case=f"batch {batch}, seed {seed}")


@requirement("parity/taps", level=MUST, needs=("hooks/fires", "hooks/multiplicity", "parity/oracle"))
def taps(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """Every hook's tensor MUST be what its name says: the reference's at a module boundary, else the oracle's.

    A hook with the right shape at the wrong place yields a paper with wrong numbers.
    """
    from ...compare import close

    for name, point in pair.boot.bridge.hook_dict.items():
        if point.name not in pair.observed.taps:
            continue
        want = pair.want(name)
        if want is None:
            yield Finding("unknown", name, got="a tensor", want="a point or an oracle tap to judge it by")
            continue
        yield from close(name, pair.observed.joined(point.name), want, pair.allowed(name), detail=pair.divergence)
    if pair.divergence:
        evidence.facts["divergence"] = pair.divergence


@requirement("parity/rows", level=MUST, needs=("parity/logits",))
def rows(pair: Pair) -> Iterator[Finding]:
    """A row of a batch MUST give the logits that it gives alone.

    A conditioning vector of one row that reaches another makes every batched sweep wrong.
    """
    import torch

    from ...compare import close

    for row in range(len(pair.plain)):
        alone = {
            name: value[row : row + 1] if isinstance(value, torch.Tensor) else value
            for name, value in pair.inputs.items()
        }
        got, want = pair.call(alone)[0], pair.plain[row]
        yield from close("logits", got, want, 2 * pair.allowed("logits"), case=f"row {row}")
