"""hooks: every advertised hook fires, in order, as declared, and can be edited. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..finding import Finding
from ..requirement import MUST, SHOULD, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ..judge import Evidence
    from ..subject import Boot, Pair

STANDARD = (
    *(f"hook_{name}" for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")),
    *(f"attn.hook_{name}" for name in ("q", "k", "v", "attn_scores", "pattern", "z")),
    *(f"{norm}.hook_{name}" for norm in ("ln1", "ln2") for name in ("scale", "normalized")),
    *(f"mlp.hook_{name}" for name in ("pre", "post")),
)
"""Names in a layer that analysis code for autoregressive models relies on."""

GRAMMAR = re.compile(r"([a-z][a-z0-9_]*\.|\d+\.)*hook_[a-z][a-z0-9_]*")


@requirement("hooks/names", level=MUST)
def names(boot: Boot) -> Iterator[Finding]:
    """Every name in `hook_dict` MUST be a dotted path that ends in `hook_...`, and every alias MUST be its target.

    An alias that is a second hook point fires apart from the first, or never.
    """
    registry = boot.bridge.hook_dict
    for name, point in registry.items():
        if not GRAMMAR.fullmatch(name):
            yield Finding("bad-name", name, got=name, want="component.path.hook_name")
        if registry.get(point.name) is not point:
            yield Finding("not-one-object", name, got=f"a hook point named {point.name}", want="the one it stands for")


@requirement("hooks/pairing", level=MUST)
def pairing(boot: Boot) -> Iterator[Finding]:
    """Every component MUST wrap the remote module that the spec pairs it with.

    An adapter whose `ln1` wraps the second norm agrees with itself in every other respect.
    """
    from .. import components
    from ..taps import paired

    model = boot.bridge.original_model
    if not boot.spec.points:
        yield Finding("undeclared", "points", got="no points in the spec", want="components with the modules they wrap")
    for name, path in paired(boot.spec.points, boot.layers):
        wrapped = getattr(components.at(boot.bridge, name), "original_component", None)
        wanted = components.unwrapped(components.at(model, path))
        if wrapped is None:
            yield Finding("missing", name, got="no component", want=path)
        elif components.unwrapped(wrapped) is not wanted:
            yield Finding("wrong-module", name, got=components.path_of(model, wrapped), want=path)


@requirement("hooks/fires", level=MUST, needs=("hooks/names",))
def fires(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """Every advertised hook MUST fire with a tensor in one forward, or refuse to be attached to.

    A hook that attaches and never fires makes an intervention look as if it had no effect.
    """
    refused = pair.boot.refused
    for name, error in refused.items():
        if name.rpartition(".")[2] not in str(error):
            yield Finding("unclear-refusal", name, got=str(error), want="an error that names the hook")
    for name in pair.names:
        if name in pair.observed.strange:
            yield Finding("no-tensor", name, got=pair.observed.strange[name], want="a tensor")
        elif name not in pair.observed.taps:
            yield Finding("never-fires", name, got="0 firings", want="at least one, or a refusal")
    registry = pair.boot.bridge.hook_dict
    evidence.facts["hooks"] = {
        "advertised": len(registry),
        "refused": sorted(name for name, point in registry.items() if point.name in refused),
    }


@requirement("hooks/complete", level=MUST, needs=("hooks/pairing",))
def complete(boot: Boot) -> Iterator[Finding]:
    """Every component that the spec names MUST have its `hook_in` and `hook_out` in `hook_dict`, and take hooks there.

    A hook that was renamed or dropped breaks every notebook that uses it; refusing it, however clearly, is no way out.
    """
    from ..taps import paired

    for name, _ in paired(boot.spec.points, boot.layers):
        for hook in (f"{name}.hook_in", f"{name}.hook_out"):
            if hook not in boot.bridge.hook_dict:
                yield Finding("missing", hook, got="no such hook", want="a hook at a point of the spec")
            elif hook in boot.refused:
                yield Finding("refused", hook, got=str(boot.refused[hook]), want="a hook at a point of the spec")


@requirement("hooks/multiplicity", level=MUST, needs=("hooks/fires",))
def multiplicity(pair: Pair) -> Iterator[Finding]:
    """Every hook MUST fire exactly as often in one forward as the layout declares.

    A second firing applies an edit twice; a missing one edits half of the stream.
    """
    for name, calls in pair.observed.taps.items():
        if len(calls) != (wanted := pair.declared_calls(name)):
            yield Finding("firings", name, got=str(len(calls)), want=str(wanted))


@requirement("hooks/order", level=MUST, needs=("hooks/multiplicity",))
def order(pair: Pair) -> Iterator[Finding]:
    """Hooks MUST fire in the order in which the reference computes their tensors.

    What is upstream of an intervention is decided by this order.
    """
    expected = pair.exact.order or pair.reference.order
    known = set(expected)
    got = [name for name in dict.fromkeys(pair.observed.order) if name in known]
    seen = set(got)
    want = [name for name in dict.fromkeys(expected) if name in seen]
    for place, other in zip(got, want, strict=True):
        if place != other:
            yield Finding("out-of-order", place, got=f"fires where {other} should", want="data-flow order")
            return


@requirement("hooks/identity", level=MUST, needs=("hooks/fires",))
def identity(pair: Pair) -> Iterator[Finding]:
    """Returning the tensor a hook was given MUST give the logits of a run that only observes, bit for bit.

    Researchers wrap hooks that sometimes do nothing; a rebuild on the way out changes the model under them.
    """
    from ..compare import exact

    touched = pair.edited(pair.names, lambda tensor, hook: tensor)
    yield from exact("logits", touched, pair.observed.logits)


@requirement("hooks/edits-reach", level=MUST, needs=("hooks/fires",))
def edits_reach(pair: Pair) -> Iterator[Finding]:
    """What a hook returns MUST take the place of the tensor, whole and once: an edit moves the logits as it should.

    An edit that is discarded looks like a component that does not matter; one that is halved, like one that
    matters less. How far logits should move is what the oracle says for the same edit.
    """
    from .. import edits
    from ..compare import close

    live = [name for name in dict.fromkeys(pair.observed.order) if pair.observed.taps[name][0].is_floating_point()]
    for effect in edits.effects(pair, live):
        discarded = not effect.moved > 10 * pair.allowed("logits")
        if effect.want is None:
            if discarded:
                yield Finding("edit-discarded", effect.name, got="the same logits", want="other logits")
            continue
        code = "edit-discarded" if discarded else "edit-changed"
        for finding in close(effect.name, effect.got, effect.want, effect.allowed):
            yield replace(finding, code=code)


@requirement("hooks/residual-algebra", level=MUST, needs=("hooks/fires",))
def residual_algebra(pair: Pair) -> Iterator[Finding]:
    """In every layer `hook_resid_pre + hook_attn_out` MUST be `hook_resid_mid`, that plus `hook_mlp_out` MUST be
    `hook_resid_post`, and that the next `hook_resid_pre`.

    Direct logit attribution sums these terms; a term without its gate or scale attributes the wrong amount.
    """
    from ..compare import close

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
                yield from close(branch, _value(pair, branch), end - start, 2 * pair.allowed(after))
            else:
                yield from close(after, end, start, 0.0)
    for layer in range(1, pair.boot.layers):
        before, after = f"blocks.{layer - 1}.hook_resid_post", f"blocks.{layer}.hook_resid_pre"
        if _seen(pair, before) and _seen(pair, after):
            yield from close(after, _value(pair, after), _value(pair, before), pair.allowed(before))


@requirement("hooks/standard-names", level=SHOULD, needs=("hooks/pairing",))
def standard_names(boot: Boot) -> Iterator[Finding]:
    """Every layer SHOULD have TransformerLens's names for residual stream, attention heads, pattern, MLP and norms.

    The same analysis runs on an autoregressive and on a diffusion model only where both have these names.
    """
    registry = boot.bridge.hook_dict
    for name in (f"blocks.{layer}.{hook}" for layer in range(boot.layers) for hook in STANDARD):
        if name not in registry:
            yield Finding("missing", name, got="no such hook", want="the name that autoregressive bridges have")


@requirement("hooks/removal", level=MUST)
def removal(pair: Pair) -> Iterator[Finding]:
    """Hooks of `run_with_hooks`, `hooks()` and `run_with_cache` MUST be gone afterwards, also after an exception, and
    take no other hook with them.

    A hook that stays behind edits the next experiment; one that is torn down with them silently ends its own.
    """
    from ..subject import SubjectRaised

    bridge = pair.boot.bridge
    if not pair.names:
        raise SubjectRaised("no hook can be attached anywhere")
    for label, attempt in _attempts(pair).items():
        bridge.add_hook(pair.names[0], _look)
        before = _attached(bridge)
        try:
            attempt()
        except SubjectRaised as error:
            if "on purpose" not in str(error):
                raise
        finally:
            after = _attached(bridge)
            bridge.reset_hooks()
        for name in [name for name in after if after[name] != before[name]][:1]:
            if sum(after[name]) > sum(before[name]):
                yield Finding("left-behind", name, got="a hook too many", want="none left", case=f"after {label}")
            else:
                yield Finding("torn-down", name, got="no hook", want="the user's own", case=f"after {label}")


def _attempts(pair: Pair) -> dict[str, Callable[[], object]]:
    """Every way to hang a hook for one run: forward, backward, and ending in an exception."""
    bridge, name = pair.boot.bridge, pair.names[-1]

    def explode(tensor: Any, hook: Any) -> None:
        raise RuntimeError("on purpose")

    def context() -> None:
        with bridge.hooks(fwd_hooks=[(name, _look)], bwd_hooks=[(name, _look)]):
            pass

    return {
        "run_with_hooks": lambda: pair.guarded(
            bridge.run_with_hooks, fwd_hooks=[(name, _look)], bwd_hooks=[(name, _look)]
        ),
        "run_with_hooks, raising": lambda: pair.guarded(bridge.run_with_hooks, fwd_hooks=[(pair.names[0], explode)]),
        "run_with_cache": lambda: pair.guarded(bridge.run_with_cache),
        "hooks()": context,
        "hooks(), raising": lambda: pair.edited(pair.names[:1], explode),
    }


def _look(tensor: Any, hook: Any) -> None:
    """Hook that changes nothing."""


def _attached(bridge: Any) -> dict[str, tuple[int, ...]]:
    """Hooks at every point, in TransformerLens's own lists and in those of torch below them."""
    kinds = ("fwd_hooks", "bwd_hooks", "_forward_hooks", "_backward_hooks")
    return {name: tuple(len(getattr(point, kind)) for kind in kinds) for name, point in bridge.hook_dict.items()}


def _seen(pair: Pair, name: str) -> bool:
    point = pair.boot.bridge.hook_dict.get(name)
    return point is not None and point.name in pair.observed.taps


def _value(pair: Pair, name: str) -> Tensor:
    return pair.observed.joined(pair.boot.bridge.hook_dict[name].name)
