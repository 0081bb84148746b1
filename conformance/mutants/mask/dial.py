"""Dials that turn a part, only forth, or too far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, having, masked
from .relation import at_own_size, holder

if TYPE_CHECKING:
    from ...subject import Boot

Turn = Callable[[Any, int], None]


def _turning(boot: Boot, defect: Callable[[Turn, Any, int], None]) -> None:
    """Let `defect(turn, bridge, size)` answer for the spec's way to turn the dial."""
    facts = having(boot.spec.dial, "a dial")
    turn = facts.turn
    boot.spec = replace(boot.spec, dial=replace(facts, turn=lambda bridge, size: defect(turn, bridge, size)))


@mutant(kills="mask/dial")
def mask_not_made_anew(boot: Boot) -> None:
    """The block size is set everywhere, and the mask, which was made when the model was built, stays."""

    def defect(turn: Turn, bridge: Any, size: int) -> None:
        owner, name = holder(bridge, masked(boot))
        mask = getattr(owner, name)
        turn(bridge, size)
        setattr(owner, name, mask)

    _turning(boot, defect)


@mutant(kills="mask/dial")
def not_turned_back(boot: Boot) -> None:
    """Turning back to the size in the config does nothing, since the config says that it is set already."""
    having(boot.spec.dial, "a dial")
    first = boot.sizes["block"]

    def defect(turn: Turn, bridge: Any, size: int) -> None:
        if size != first:
            turn(bridge, size)

    _turning(boot, defect)


@mutant(kills="mask/dial")
def one_layout_stays(boot: Boot) -> None:
    """The last layout goes on with a copy of the mask that was made at boot; the others follow the dial."""
    constants = {name: value for name, value in boot.spec.layouts[-1].arguments.items() if isinstance(value, bool)}

    def defect(bridge: Any) -> None:
        owner, name = holder(bridge, masked(boot))
        first = getattr(owner, name)

        def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if any(kwargs.get(key) != value for key, value in constants.items()):
                return inner(*args, **kwargs)
            held = getattr(owner, name)
            setattr(owner, name, first)
            try:
                return inner(*args, **kwargs)
            finally:
                setattr(owner, name, held)

        around(bridge, "forward", forward)

    at_own_size(boot, defect)


@mutant(kills="mask/dial")
def refused_without_the_size(boot: Boot) -> None:
    """A size that does not fit dies in a reshape that speaks of shapes."""

    def defect(turn: Turn, bridge: Any, size: int) -> None:
        if boot.sizes["n"] % size:
            raise RuntimeError(f"shape '[-1, {size}]' is invalid for input of size {boot.sizes['n']}")
        turn(bridge, size)

    _turning(boot, defect)


@mutant(kills="mask/dial")
def refused_when_half_done(boot: Boot) -> None:
    """A size that does not fit is refused by name, after the mask has been made for it."""

    def defect(turn: Turn, bridge: Any, size: int) -> None:
        import torch

        if boot.sizes["n"] % size:
            owner, name = holder(bridge, masked(boot))
            index = torch.arange(len(getattr(owner, name)))
            setattr(owner, name, masked(boot).relation(index[:, None], index, boot.sizes["n"], size))
            raise ValueError(f"block size {size} does not divide {boot.sizes['n']} tokens")
        turn(bridge, size)

    _turning(boot, defect)


@mutant(kills="mask/dial")
def weights_drift(boot: Boot) -> None:
    """Every turn saves and loads the weights in half precision, so that the way back ends elsewhere."""

    def defect(turn: Turn, bridge: Any, size: int) -> None:
        turn(bridge, size)
        weight = list(bridge.original_model.parameters())[-1]
        weight.data = weight.data.half().to(weight.dtype)

    _turning(boot, defect)
