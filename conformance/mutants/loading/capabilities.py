"""Refusals that are none, and results that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/loss")
def loss_of_nothing(boot: Boot) -> None:
    """`return_type="loss"` returns a number that is no loss (TransformerLens #1613 ignored the labels)."""

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        got = inner(*args, **{**kwargs, "return_type": "logits"})
        return got.sum() * float("nan") if kwargs.get("return_type") == "loss" else got

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="loading/generate")
def returns_the_prompt(boot: Boot) -> None:
    """`generate` neither refuses nor generates; it returns the prompt."""
    on_bridge(boot, lambda bridge: around(bridge, "generate", lambda _, tokens, **__: tokens))


@mutant(kills="loading/generate")
def generate_trips(boot: Boot) -> None:
    """`generate` is not refused and breaks down on the way, with a message about shapes."""

    def generate(_: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        raise IndexError("index -1 is out of bounds for dimension 1 with size 0")

    on_bridge(boot, lambda bridge: around(bridge, "generate", generate))
