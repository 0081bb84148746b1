"""Algebra: what an ActivationCache computes from its entries is what the model computes. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from ...spec import in_one_line
from . import runs

if TYPE_CHECKING:
    from ...judge import Evidence
    from ...pair import Pair


@requirement("cache/decompose", level=MUST, needs=("cache/complete",))
def decompose(pair: Pair) -> Iterator[Finding]:
    """`decompose_resid(layer=k)` MUST sum to the residual stream that enters layer k, from 0 to the last one's output.

    Attribution by component rests on it; a contribution without its gate, or one that is counted twice, makes every
    share wrong (TransformerLens issues #1639 and #1648).
    """
    from ...compare import PATHS, close
    from ...pair import blamed_on_subject

    cache, (entering, leaving) = _algebra(pair), pair.boot.spec.streams
    for layer in range(pair.boot.layers + 1):
        # What enters a layer is what left the one before, by whose name a wrong sum is found.
        name = entering.format(layer=0) if layer == 0 else leaving.format(layer=layer - 1)
        with blamed_on_subject():
            got = cache.decompose_resid(layer=layer).sum(dim=0)
        # Twice: the parts are summed in another order than in the model.
        yield from close(name, got, runs.shown(pair, name), pair.allowed(name, PATHS))


@requirement("cache/accumulated", level=MUST, needs=("cache/complete",))
def accumulated(pair: Pair) -> Iterator[Finding]:
    """`accumulated_resid` MUST stack the residual stream as it enters, halves and at last leaves the layers, in order.

    Plots over depth take their axis from its labels.
    """
    from ...compare import exact
    from ...pair import blamed_on_subject

    spec, layers = pair.boot.spec, pair.boot.layers
    entering, leaving = spec.streams
    halves = [branch.after for branch in spec.branches if branch.after not in spec.streams]
    with blamed_on_subject():
        stack, labels = _algebra(pair).accumulated_resid(incl_mid=bool(halves), return_labels=True)
    want = {}
    for layer in range(layers):
        want[f"{layer}_pre"] = entering.format(layer=layer)
        want |= {f"{layer}_mid": half.format(layer=layer) for half in halves[:1]}
    want["final_post"] = leaving.format(layer=layers - 1)
    if list(labels) != list(want):
        yield Finding("labels", "accumulated_resid", got=", ".join(map(str, labels)), want=", ".join(want))
        return
    for got, name in zip(stack, want.values(), strict=True):
        yield from exact(name, got, runs.shown(pair, name))


@requirement("cache/head-results", level=MUST, needs=("cache/complete",))
def head_results(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """`stack_head_results` MUST give what each head's z becomes behind its own output weights, and sum, with the output
    bias, to what attention adds to the stream; or name the hook that it lacks.

    A head without the gate that its branch has is given credit for what never arrived; where attention shows no heads
    there is nothing to attribute to, and numbers all the same would be made up.
    """
    import torch

    from ...compare import PATHS, close
    from ...facts import Chunk
    from ...pair import blamed_on_subject

    bridge, cache = pair.boot.bridge, _algebra(pair)
    hooks = ("hook_z", "hook_result")
    heads = [name for name in hooks if pair.canonical(f"blocks.0.attn.{name}") in pair.observed.taps]
    if not heads:
        evidence.refused = True
        try:
            got = cache.stack_head_results()
        except Exception as error:
            if not any(name in str(error) for name in hooks):
                told = in_one_line(error)
                wanted = "an error that names hook_z or hook_result"
                yield Finding("unclear-error", "stack_head_results", got=told, want=wanted)
            return
        yield Finding("accepted", "stack_head_results", got=f"{len(got)} heads", want="an error: no head fires")
        return
    with blamed_on_subject():
        stack = cache.stack_head_results().unflatten(0, (pair.boot.layers, -1))
    branch = next(iter(pair.boot.branches), None)
    for layer, results in enumerate(stack):
        attn, name = bridge.blocks[layer].attn, f"blocks.{layer}.hook_attn_out"
        total, want, factor = results.sum(dim=0), runs.shown(pair, name), 1.0
        if branch is not None:
            gate = branch.gate.hook if isinstance(branch.gate, Chunk) else branch.gate
            factor = branch.factor(runs.shown(pair, gate.format(layer=layer)) if isinstance(gate, str) else None, want)
        if (bias := getattr(attn, "b_O", None)) is not None:
            total = total + factor * bias
        yield from close(name, total, want, pair.allowed(name, PATHS))
        # Of the cache's own z: whether that is what hooks see, other requirements say.
        z = pair.cached[1][pair.canonical(f"blocks.{layer}.attn.hook_z")]
        each = torch.einsum("bphd,hdm->hbpm", z, attn.W_O) * factor
        yield from close(f"blocks.{layer}.attn.hook_result", results, each, pair.allowed(name, PATHS))


@requirement("cache/logit-lens", level=MUST, needs=("cache/complete",))
def logit_lens(pair: Pair) -> Iterator[Finding]:
    """The logit lens at the last layer MUST give the logits, at every position that has any.

    It reads all earlier layers by the same path; where that leaves out a step, every layer is read wrongly.
    """
    from ...compare import PATHS, close

    try:
        lens = _algebra(pair).logit_lens(positions=None, layers=[-1]).values[0]
    except Exception as error:
        yield Finding("refused", "logit_lens", got=in_one_line(error), want="logits at the last layer")
        return
    yield from close("logits", lens[:, pair.returned], pair.cached[0], pair.allowed("logits", PATHS))


def _algebra(pair: Pair) -> Any:
    """The kind of object that `run_with_cache` returns, with entries of its own."""
    from transformer_lens import ActivationCache

    kind = type(runs.again(pair).cache)
    return (kind if issubclass(kind, ActivationCache) else ActivationCache)(dict(pair.cached[1]), pair.boot.bridge)
