"""Algebra: what the residual stream receives is what its hooks say. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...pair import Pair


@requirement("hooks/residual-algebra", level=MUST, needs=("hooks/fires",))
def residual_algebra(pair: Pair) -> Iterator[Finding]:
    """In every layer `hook_resid_pre + hook_attn_out` MUST be `hook_resid_mid`, that plus `hook_mlp_out` MUST be
    `hook_resid_post`, and that the next `hook_resid_pre`.

    Direct logit attribution sums these terms; a term without its gate or scale attributes the wrong amount.
    """
    from ...compare import PATHS, close

    sums = (
        ("hook_resid_pre", "hook_attn_out", "hook_resid_mid"),
        ("hook_resid_mid", "hook_mlp_out", "hook_resid_post"),
    )
    for layer in range(pair.boot.layers):
        for names in sums:
            before, branch, after = (f"blocks.{layer}.{name}" for name in names)
            absent = [name for name in (before, branch, after) if not _seen(pair, name)]
            if absent:
                yield Finding(
                    "missing", absent[0], got="no value in this forward", want="a term of the residual stream"
                )
                continue
            start, end = _value(pair, before), _value(pair, after)
            if start.shape == end.shape:
                yield from close(branch, _value(pair, branch), end - start, pair.allowed(after, PATHS))
            else:
                yield from close(after, end, start, 0.0)
    for layer in range(1, pair.boot.layers):
        before, after = f"blocks.{layer - 1}.hook_resid_post", f"blocks.{layer}.hook_resid_pre"
        if _seen(pair, before) and _seen(pair, after):
            yield from close(after, _value(pair, after), _value(pair, before), pair.allowed(before))


@requirement("hooks/gated-branches", level=MUST, needs=("hooks/fires",))
def gated_branches(pair: Pair) -> Iterator[Finding]:
    """In every layer the stream before a branch plus gate times raw branch MUST be the stream after it, for every
    branch of the spec.

    A diffusion model gates its branches by the noise level; whoever has the hooks of gate and branch can rebuild the
    stream, or blame the gate, only if these are the ones that were used.
    """
    from ...compare import PATHS, WITNESS, close, shape_of
    from ...facts import Chunk
    from ...spec import places

    if not pair.boot.spec.branches:
        yield Finding("undeclared", "branches", got="no branches in the spec", want="what a layer adds to its stream")
    for branch in pair.boot.branches:
        gate = branch.gate.hook if isinstance(branch.gate, Chunk) else branch.gate
        hooks = [name for name in (branch.before, branch.raw, branch.after, gate) if isinstance(name, str)]
        for names in zip(*(places(name, pair.boot.layers) for name in hooks), strict=True):
            absent = [name for name in names if not _seen(pair, name)]
            if absent:
                yield Finding("missing", absent[0], got="no value in this forward", want="a term of a branch")
                continue
            before, raw, after, *gates = (_value(pair, name) for name in names)
            allowed = max(pair.allowed(names[2], PATHS), WITNESS.of(after))
            try:
                got, want = branch.factor(gates[0] if gates else None, raw) * raw, after - before
            except (RuntimeError, IndexError):
                shapes = ", ".join(shape_of(value) for value in (before, raw, after, *gates))
                yield Finding("shape-mismatch", names[1], got=shapes, want="terms that can be multiplied and added")
                continue
            yield from close(names[1], got, want, allowed, case=f"towards {names[2]}")


def _seen(pair: Pair, name: str) -> bool:
    point = pair.boot.bridge.hook_dict.get(name)
    return point is not None and point.name in pair.observed.taps


def _value(pair: Pair, name: str) -> Tensor:
    return pair.observed.joined(pair.boot.bridge.hook_dict[name].name)
