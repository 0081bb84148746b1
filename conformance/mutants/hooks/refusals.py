"""Hooks that are taken and never had, and switches that do not switch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, around_firing, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/unknown-name")
def typo_taken(boot: Boot) -> None:
    """A misspelt name is given a hook point of its own, on which nothing ever fires."""

    def resolve(inner: Callable[..., Any], name: str, *args: Any) -> Any:
        from transformer_lens.hook_points import HookPoint

        try:
            return inner(name, *args)
        except KeyError:
            return name, HookPoint()

    on_bridge(boot, lambda bridge: around(bridge, "_resolve_hook_point", resolve))


@mutant(kills="hooks/unknown-name")
def refused_without_a_name(boot: Boot) -> None:
    """A misspelt name among hundreds is refused with an error that does not say which one."""

    def resolve(inner: Callable[..., Any], name: str, *args: Any) -> Any:
        try:
            return inner(name, *args)
        except KeyError:
            raise KeyError("no such hook") from None

    on_bridge(boot, lambda bridge: around(bridge, "_resolve_hook_point", resolve))


@mutant(kills="hooks/gated")
def switched_on_and_dead(boot: Boot) -> None:
    """A setter lets hooks attach, and the forward never fires them (TransformerLens #1688)."""

    def defect(bridge: Any) -> None:
        for name in bridge.hook_dict:
            if name.endswith("hook_mlp_in"):
                around_firing(bridge, name, lambda fire, tensor: tensor)

    on_bridge(boot, defect)


@mutant(kills="hooks/gated")
def swept_in_silence(boot: Boot) -> None:
    """A predicate that matches a hook that is switched off passes over it without a word (TransformerLens #1724)."""
    on_bridge(boot, lambda bridge: around(bridge, "_warn_gated_skipped", lambda inner, *args, **kwargs: None))
