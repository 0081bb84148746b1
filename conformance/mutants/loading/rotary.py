"""Angles that are not the model's, while every table that is held is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, around_firing, first, on_this_model, part_of_stream

if TYPE_CHECKING:
    from torch import Tensor

    from ...subject import Boot

Tables = tuple["Tensor", "Tensor"]


def answering(boot: Boot, change: Callable[[Any, Tables], Any]) -> None:
    """Let `change(bridge, (cos, sin))` make the tables that reach attention."""

    def defect(bridge: Any) -> None:
        import torch

        # In another precision the model may not run at all.
        if next(bridge.original_model.parameters()).dtype is torch.float32:
            inner = rotary_module(boot, bridge)
            around(inner, "forward", lambda forward, *args, **kwargs: change(bridge, forward(*args, **kwargs)))

    on_this_model(boot, defect)


def rotary_module(boot: Boot, bridge: Any) -> Any:
    """The part of the remote model that returns two tables whose squares add up to one."""
    import torch

    found: list[Any] = []

    def look(module: Any, _: Any, got: Any) -> None:
        tables = got if isinstance(got, tuple) and len(got) == 2 else ()
        if len(tables) == 2 and all(isinstance(table, torch.Tensor) for table in tables):
            cos, sin = tables
            if cos.shape == sin.shape and torch.allclose(cos**2 + sin**2, torch.ones_like(cos)):
                found.append(module)

    handles = [module.register_forward_hook(look) for module in bridge.original_model.modules()]
    try:
        pair = next(iter(boot.pairs.values()))
        pair.refused(bridge)
    finally:
        for handle in handles:
            handle.remove()
    return first(found, "a module that returns rotary tables")


def turned(cos: Tensor, base: float, start: int = 0, scale: float = 1.0) -> Tables:
    """Tables in the shape of `cos`, with other angles."""
    import torch

    width = cos.shape[-1]
    positions = scale * torch.arange(start, start + cos.numel() // width)
    omega = base ** (-2 * torch.arange(width // 2) / width)
    angles = torch.outer(positions, omega).repeat(1, 2).view(cos.shape)
    return angles.cos(), angles.sin()


def base_of(boot: Boot) -> float:
    """The base of the model's angles."""
    return boot.spec.rotary.base if boot.spec.rotary else 1.0


@mutant(kills="loading/rotary")
def tables_of_zeros(boot: Boot) -> None:
    """The tables are zeros, as fresh memory often is: queries and keys vanish, and every token attends evenly."""
    answering(boot, lambda bridge, tables: tuple(0 * table for table in tables))


@mutant(kills="loading/rotary")
def frequencies_of_zero(boot: Boot) -> None:
    """The inverse frequencies were never filled, so that rotation is the identity (InternLM2 under transformers 5)."""
    answering(boot, lambda bridge, tables: (0 * tables[0] + 1, 0 * tables[1]))


@mutant(kills="loading/rotary")
def base_of_another_model(boot: Boot) -> None:
    """The base is another model's: a field of the config was dropped (TransformerLens PR #1355)."""
    other = 1e4 if base_of(boot) > 1e4 else 1e6
    answering(boot, lambda bridge, tables: turned(tables[0], other))


@mutant(kills="loading/rotary")
def stretched(boot: Boot) -> None:
    """Positions are divided by two, as for a context that was extended, which this one was not."""
    answering(boot, lambda bridge, tables: turned(tables[0], base_of(boot), scale=0.5))


@mutant(kills="loading/rotary")
def counted_on(boot: Boot) -> None:
    """The second half of the stream is rotated by positions that go on instead of starting again."""
    part = part_of_stream(boot)

    calls: list[str] = []

    class Continued(tuple[Any, Any]):
        """Tables that are those of the next positions while a second part of the stream is being projected."""

        __slots__ = ()

        def __iter__(self) -> Iterator[Any]:
            cos = self[0]
            second = calls.count(calls[-1]) > 1 if calls else False
            later = turned(cos, base_of(boot), start=cos.numel() // cos.shape[-1])
            return iter(later) if second else super().__iter__()

    def change(bridge: Any, tables: Tables) -> Tables:
        calls.clear()
        return Continued(tables)

    def count(bridge: Any) -> None:
        for layer in range(boot.layers):
            name = part.replace("{layer}", str(layer)) + ".hook_out"

            def counted(fire: Callable[[Any], Any], tensor: Any, name: str = name) -> Any:
                calls.append(name)
                return fire(tensor)

            around_firing(bridge, name, counted)

    answering(boot, change)
    on_this_model(boot, count)
