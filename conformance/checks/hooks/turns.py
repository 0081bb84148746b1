"""Turns: hooks that share a point run in order, and inner ones leave the outer as they were. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from .lifecycle import any_hook

if TYPE_CHECKING:
    from ...pair import Pair


@requirement("hooks/sequence", level=MUST, needs=("hooks/fires",))
def sequence(pair: Pair) -> Iterator[Finding]:
    """Hooks at one point MUST run in the order in which they were added, those of an inner context after those of an
    outer one, and one that is added with `prepend=True` before all.

    An observer sees an edit or not by its place in this order.
    """
    bridge, name = pair.boot.bridge, any_hook(pair)
    ran: list[str] = []

    def noting(label: str) -> Callable[..., None]:
        return lambda tensor, hook: ran.append(label)

    for label in ("first", "second"):
        bridge.add_hook(name, noting(label))
    bridge.hook_dict[name].add_hook(noting("prepended"), prepend=True)
    inner = [(name, noting(label)) for label in ("inner", "inner again")]
    try:
        with bridge.hooks(fwd_hooks=[(name, noting("outer"))]), bridge.hooks(fwd_hooks=inner):
            pair.call(pair.row)
    finally:
        bridge.reset_hooks()
    want = ["prepended", "first", "second", "outer", "inner", "inner again"] * pair.declared_calls(name)
    if ran != want:
        yield Finding("out-of-turn", name, got=", ".join(ran) or "no call", want=", ".join(want))


@requirement("hooks/contexts", level=MUST, needs=("hooks/fires",))
def contexts(pair: Pair) -> Iterator[Finding]:
    """When an inner context of hooks ends, the outer one's MUST go on alone: they fire, and the logits are again, bit
    for bit, those from before the inner one.

    Patching inside an observed run is two contexts, one in the other.
    """
    from ...compare import exact

    bridge, name = pair.boot.bridge, any_hook(pair, floating=True)
    fired: list[Any] = []
    with bridge.hooks(fwd_hooks=[(name, lambda tensor, hook: fired.append(hook.name))]):
        with bridge.hooks(fwd_hooks=[(name, lambda tensor, hook: tensor + 1)]):
            pair.call()
        fired.clear()
        after = pair.call()
    if not fired:
        yield Finding("torn-down", name, got="the outer hook is silent", want="it fires until its own context ends")
    yield from exact("logits", after, pair.plain)
