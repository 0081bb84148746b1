"""Compatibility mode that changes more than names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import (
    advertise,
    around,
    around_firing,
    inner_hook,
    inside_a_layer,
    on_bridge,
    output,
    shown_twice_as_large,
)

if TYPE_CHECKING:
    from ...subject import Boot


def _switched_on(boot: Boot, defect: Callable[[Any, int], None]) -> None:
    """Let `defect(bridge, time)` follow on compatibility mode, the first time and every further one."""

    def amend(bridge: Any) -> None:
        called: list[bool] = []

        def enable(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
            inner(*args, **kwargs)
            called.append(True)
            defect(bridge, len(called))

        around(bridge, "enable_compatibility_mode", enable)

    on_bridge(boot, amend)


@mutant(kills="parity/compatibility")
def processes_although_told_not_to(boot: Boot) -> None:
    """The unembedding is centred although no processing was asked for: other logits, the same distribution."""
    _switched_on(boot, lambda bridge, time: output(bridge, lambda logits: logits - logits.mean(dim=-1, keepdim=True)))


@mutant(kills="parity/compatibility")
def scales_once_more(boot: Boot) -> None:
    """Every further call applies the logit scale again (TransformerLens PR #1770: logits flattened sixteenfold)."""

    def defect(bridge: Any, time: int) -> None:
        if time > 1:
            output(bridge, lambda logits: logits / 2)

    _switched_on(boot, defect)


@mutant(kills="parity/compatibility")
def silent_in_compatibility_mode(boot: Boot) -> None:
    """In compatibility mode a component takes another path, on which a hook of its own does not fire.

    TransformerLens PR #1659: gated MLPs lost `out.hook_out`.
    """
    point = inside_a_layer(boot)
    silence: Callable[..., Any] = lambda fire, tensor: tensor  # noqa: E731
    _switched_on(boot, lambda bridge, time: around_firing(bridge, f"{point}.hook_out", silence))


@mutant(kills="parity/compatibility")
def shows_the_old_shape(boot: Boot) -> None:
    """In compatibility mode a hook shows what it showed in the library's old models, which is a multiple."""

    def defect(bridge: Any, time: int) -> None:
        shown_twice_as_large(bridge, inner_hook(bridge))

    _switched_on(boot, defect)


@mutant(kills="parity/compatibility")
def drops_a_name(boot: Boot) -> None:
    """The registry is made anew, and what the spec's residual stream is called is not in it any more."""
    name = boot.spec.streams[1].replace("{layer}", "0")

    def fewer(registry: Any) -> Any:
        return {known: point for known, point in registry.items() if known != name}

    _switched_on(boot, lambda bridge, time: advertise(bridge, fewer))


@mutant(kills="parity/compatibility")
def dies_of_compatibility(boot: Boot) -> None:
    """Instead of a refusal the first thing that is not there is asked for."""

    def defect(bridge: Any, time: int) -> None:
        raise AttributeError("'NoneType' object has no attribute 'weight'")

    _switched_on(boot, defect)
