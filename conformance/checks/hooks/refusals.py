"""Refusals: a hook that cannot be had is refused by name, and one that is switched off says by which switch.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from .lifecycle import any_hook

if TYPE_CHECKING:
    from ...pair import Pair
    from ...subject import Boot

SWITCHES = {
    "use_attn_result": ("attn.hook_result",),
    "use_split_qkv_input": ("hook_q_input", "hook_k_input", "hook_v_input"),
    "use_attn_in": ("hook_attn_in",),
    "use_hook_mlp_in": ("hook_mlp_in",),
}
"""TransformerLens's switches, off unless asked for, and the ends of the names that they switch."""


@requirement("hooks/unknown-name", level=MUST, needs=("hooks/fires",))
def unknown_name(boot: Boot) -> Iterator[Finding]:
    """A hook at a name that does not exist MUST be refused with an error that says what is not there, by `add_hook`,
    `hooks()` and `run_with_hooks`.

    A misspelt name that is taken gives the result of the untouched model, which looks like one.
    """
    bridge, pair = boot.bridge, next(iter(boot.pairs.values()))
    component, _, hook = any_hook(pair).rpartition(".")
    # Each name, and the part of it that an error has to repeat.
    typos = {f"{component}.{hook}x": f"{hook}x", f"{component}x.{hook}": f"{component}x".rpartition(".")[2]}
    ways: dict[str, Callable[[str], object]] = {
        "add_hook": lambda name: bridge.add_hook(name, _look),
        "hooks()": lambda name: _enter(bridge, name),
        "run_with_hooks": lambda name: pair.refused(bridge.run_with_hooks, fwd_hooks=[(name, _look)]),
    }
    for label, attach in ways.items():
        for name, part in typos.items():
            try:
                attach(name)
            except Exception as error:
                if part not in str(error):
                    yield Finding("unclear-error", name, got=str(error), want=f"an error with {part}", case=label)
            else:
                yield Finding("accepted", name, got="no error", want=f"an error with {part}", case=label)
    bridge.reset_hooks()


@requirement("hooks/gated", level=MUST)
def gated(boot: Boot) -> Iterator[Finding]:
    """A hook that is switched off MUST be refused with an error that names its setter, passed over with a warning that
    names it by a sweep, and fire once the setter has been called, unless the setter says that the model cannot.

    TransformerLens #1688: hooks behind a switch took whatever was attached and never fired.
    """
    from ...pair import blamed_on_subject

    pair = next(iter(boot.pairs.values()))
    with blamed_on_subject():
        # A bridge of its own, so that no switch is left on.
        bridge = boot.boot_again()
    for switch, ends in SWITCHES.items():
        names = [name for name in boot.refused if any(f".{name}".endswith(f".{end}") for end in ends)]
        if not names:
            continue
        for name in names:
            if f"set_{switch}" not in str(boot.refused[name]):
                yield Finding("unclear-refusal", name, got=str(boot.refused[name]), want=f"an error with set_{switch}")
        told = _sweep(bridge, names)
        for name in names:
            if name not in told:
                yield Finding("skipped-silently", name, got=told or "no warning", want="a warning that names it")
        try:
            getattr(bridge, f"set_{switch}")(True)
        except Exception as error:
            if switch not in str(error):
                yield Finding("unclear-error", f"set_{switch}", got=str(error), want=f"an error with {switch}")
            continue
        yield from _switched_on(pair, bridge, names, switch)


def _switched_on(pair: Pair, bridge: Any, names: list[str], switch: str) -> Iterator[Finding]:
    """Hooks whose switch is on: do they attach and fire, and are they off again with it?"""
    from ...pair import blamed_on_subject
    from ...taps import attach_refusal, record_bridge

    taken = [name for name in names if attach_refusal(bridge, name) is None]
    for name in names:
        if name not in taken:
            yield Finding(
                "refused", name, got=str(attach_refusal(bridge, name)), want=f"a hook after set_{switch}(True)"
            )
    with blamed_on_subject():
        fired = record_bridge(lambda: pair.guarded(bridge, pair.row), bridge, taken).taps
    for name in taken:
        if name not in fired:
            yield Finding("never-fires", name, got="0 firings", want=f"at least one after set_{switch}(True)")
    getattr(bridge, f"set_{switch}")(False)
    for name in taken:
        if attach_refusal(bridge, name) is None:
            yield Finding("stays-on", name, got="a hook attaches", want=f"a refusal after set_{switch}(False)")


def _sweep(bridge: Any, names: list[str]) -> str:
    """What a predicate that matches the names is told, while it attaches what it can."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with contextlib.suppress(Exception), bridge.hooks(fwd_hooks=[(names.__contains__, _look)]):
            pass
    return "; ".join(str(warning.message) for warning in told)


def _enter(bridge: Any, name: str) -> None:
    with bridge.hooks(fwd_hooks=[(name, _look)]):
        pass


def _look(tensor: Any, hook: Any) -> None:
    """Hook that changes nothing."""
