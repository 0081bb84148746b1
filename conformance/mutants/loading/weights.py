"""Weights that are not restored, and parts that do not follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, component, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/state-dict")
def loads_nothing(boot: Boot) -> None:
    """`load_state_dict` finds every name and loads none of them (TransformerLens #1587)."""

    def load(inner: Callable[..., Any], state: Any, *args: Any, **kwargs: Any) -> Any:
        told = inner(state, *args, **kwargs)
        inner({name: 1.5 * tensor for name, tensor in state.items()}, strict=False)
        return told

    on_bridge(boot, lambda bridge: around(bridge, "load_state_dict", load))


@mutant(kills="loading/state-dict")
def assigned_to_no_one(boot: Boot) -> None:
    """Tensors that are assigned land beside those that the forward reads (TransformerLens #1637, #1725)."""

    def load(inner: Callable[..., Any], state: Any, *args: Any, assign: bool = False, **kwargs: Any) -> Any:
        return inner({} if assign else state, *args, **{**kwargs, "strict": kwargs.get("strict", True) and not assign})

    on_bridge(boot, lambda bridge: around(bridge, "load_state_dict", load))


@mutant(kills="loading/state-dict")
def says_nothing_of_names(boot: Boot) -> None:
    """Names that are missing or unknown are passed over, strict or not (TransformerLens #1587)."""

    def load(inner: Callable[..., Any], state: Any, *args: Any, **kwargs: Any) -> Any:
        inner(state, *args, **{**kwargs, "strict": False})

    on_bridge(boot, lambda bridge: around(bridge, "load_state_dict", load))


@mutant(kills="loading/there-and-back")
def registered_on_the_way(boot: Boot) -> None:
    """Moving the bridge registers the model once more, so that its state dict is doubled (TransformerLens PR #1770)."""

    def defect(bridge: Any) -> None:
        moves: list[bool] = []

        def to(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            moves.append(True)
            return inner(*args, **kwargs)

        def state_dict(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            state = inner(*args, **kwargs)
            return {**state, **{f"original_model.{name}": tensor for name, tensor in state.items() if moves}}

        around(bridge, "to", to)
        around(bridge, "state_dict", state_dict)

    on_bridge(boot, defect)


@mutant(kills="loading/there-and-back")
def copied_on_the_way(boot: Boot) -> None:
    """Every cast leaves a copy of a weight behind (TransformerLens PR #1229 copied a template for every layer)."""

    def defect(bridge: Any) -> None:
        def to(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            weight = next(iter(bridge.original_model.parameters()))
            bridge.register_buffer("kept", weight.detach().clone(), persistent=False)
            return inner(*args, **kwargs)

        around(bridge, "to", to)

    on_bridge(boot, defect)


@mutant(kills="loading/there-and-back")
def stays_in_training(boot: Boot) -> None:
    """`eval()` does not reach one wrapper that `train()` has reached (TransformerLens PR #1519)."""
    name = next(iter(boot.spec.points))

    def defect(bridge: Any) -> None:
        def train(inner: Callable[..., Any], mode: bool = True) -> Any:
            result = inner(mode)
            object.__setattr__(component(bridge, name), "training", True)
            return result

        around(bridge, "train", train)

    on_bridge(boot, defect)
