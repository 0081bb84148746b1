"""Noise that leaks in although it is switched off, and noise that is not followed although it is switched on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, having, on_bridge

if TYPE_CHECKING:
    from ...layout import PerRow
    from ...subject import Boot


def noise(boot: Boot) -> dict[str, PerRow]:
    """The arguments that every row has its own value of."""
    from ...layout import PerRow

    arguments = (item for layout in boot.spec.layouts for item in layout.arguments.items())
    found = {name: value for name, value in arguments if isinstance(value, PerRow)}
    return having(found or None, "an argument with a value per row")


def given(boot: Boot, change: Callable[[Any, PerRow], Any]) -> None:
    """Let every bridge run with other values of these arguments than it is given."""
    arguments = noise(boot)

    def defect(bridge: Any) -> None:
        def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
            changed = {name: change(kwargs[name], argument) for name, argument in arguments.items()}
            return inner(tokens, **{**kwargs, **changed})

        around(bridge, "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="parity/conditioning")
def noise_leaks_in(boot: Boot) -> None:
    """Although it is switched off, a trace of the noise level reaches the logits, within every tolerance."""
    names = list(noise(boot))

    def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
        return inner(tokens, **kwargs) + 1e-7 * sum(kwargs[name] for name in names)[:, None, None]

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="parity/conditioning")
def keeps_the_first_noise(boot: Boot) -> None:
    """The conditioning of the first forward is kept for all later ones: every denoising step runs at the first's noise.

    Nothing is to be seen where the noise is ignored.
    """
    names = list(noise(boot))

    def defect(bridge: Any) -> None:
        first: dict[Any, Any] = {}

        def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
            kept = {name: first.setdefault((name, tokens.shape), kwargs[name]) for name in names}
            return inner(tokens, **{**kwargs, **kept})

        around(bridge, "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="parity/conditioning")
def ends_the_schedule_early(boot: Boot) -> None:
    """The noise level is clipped a little below the end of the schedule."""
    given(boot, lambda level, argument: level.clamp(max=argument.low + 0.99 * (argument.high - argument.low)))


@mutant(kills="parity/conditioning")
def never_switched_on(boot: Boot) -> None:
    """No variant of the spec switches the noise on: that it works there is promised and never seen."""
    arguments = noise(boot).values()

    def switches(argument: PerRow, fields: Any) -> bool:
        return argument.acts({**boot.config, **fields}) != argument.acts(boot.config)

    kept = {
        name: variant
        for name, variant in boot.spec.variants.items()
        if not any(switches(argument, variant.fields) for argument in arguments)
    }
    boot.spec = replace(boot.spec, variants=kept)
