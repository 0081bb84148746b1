"""gradients: what is cut off, scaled, hidden or kept on its way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import components
from . import mutant
from .surgery import around, around_backward_hook, around_firing, first, having, inner_hook, on_bridge, part_of_stream

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..subject import Boot

Weight = Callable[["Tensor"], "Tensor"]


def _with_weight(module: nn.Module, change: Weight) -> None:
    """Let a remote module run with `change(weight)` in place of its weight."""
    module = components.unwrapped(module)

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        held: dict[str, Any] = module._parameters
        weight = held["weight"]
        held["weight"] = change(weight)
        try:
            return inner(*args, **kwargs)
        finally:
            held["weight"] = weight

    around(module, "forward", forward)


def _first_weight(boot: Boot) -> str:
    """Path of the first linear module in a layer that is paired: bridges compute norms themselves where hooks stand."""
    inside = (path.replace("{layer}", "0") for path in boot.spec.points.values() if "{layer}" in path)
    linear = (path for path in inside if getattr(boot.params.get(f"{path}.weight"), "ndim", 0) == 2)
    return first(linear, "a linear module in its layers")


@mutant(kills="gradients/parameters")
def weight_without_gradient(boot: Boot) -> None:
    """The bridge recomputes a module from a detached copy of its weight: the forward is right, training is not."""
    path = _first_weight(boot)
    on_bridge(boot, lambda b: _with_weight(b.original_model.get_submodule(path), lambda weight: weight.detach()))


@mutant(kills="gradients/parameters")
def straight_through(boot: Boot) -> None:
    """Remote code passes another gradient than its value's, on both sides: only the equations disagree."""
    path = _first_weight(boot)

    def reversed_gradient(weight: Tensor) -> Tensor:
        return 2 * weight.detach() - weight

    _with_weight(boot.reference.get_submodule(path), reversed_gradient)
    on_bridge(boot, lambda bridge: _with_weight(bridge.original_model.get_submodule(path), reversed_gradient))


@mutant(kills="gradients/fires")
def fires_under_no_grad(boot: Boot) -> None:
    """A hook fires beside the path, without gradients: forward it is right, backward it never fires.

    TransformerLens #1526: norms that ran natively fired their hooks under `no_grad`.
    """

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        import torch

        with torch.no_grad():
            inner(tensor)
        return tensor

    on_bridge(boot, lambda bridge: around_firing(bridge, inner_hook(bridge), fire))


@mutant(kills="gradients/fires")
def fires_backward_for_one_part(boot: Boot) -> None:
    """Of a hook that fires once per part of the stream, the gradient of the last part is the only one shown."""
    pattern = part_of_stream(boot)
    name = pattern.replace("{layer}", "0") + ".hook_out"
    shown: list[bool] = []

    def defect(bridge: Any) -> None:
        def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            shown.clear()
            return inner(*args, **kwargs)

        def once(hook: Callable[[Any], Any], gradient: Any) -> Any:
            shown.append(True)
            return hook(gradient) if len(shown) == 1 else None

        around(bridge, "forward", forward)
        around_backward_hook(bridge, name, once)

    on_bridge(boot, defect)


@mutant(kills="gradients/taps")
def shown_in_another_scale(boot: Boot) -> None:
    """A backward hook is shown the gradient of a scaled tensor, and what it returns is scaled back."""

    def scaled(hook: Callable[[Any], Any], gradient: Any) -> Any:
        returned = hook(gradient * 2)
        return None if returned is None else returned / 2

    on_bridge(boot, lambda bridge: around_backward_hook(bridge, inner_hook(bridge), scaled))


@mutant(kills="gradients/identity")
def rebuilt_on_the_way(boot: Boot) -> None:
    """What a backward hook returns is scaled and scaled back, which costs its last bits."""

    def rebuilt(hook: Callable[[Any], Any], gradient: Any) -> Any:
        returned = hook(gradient)
        return None if returned is None else returned / 3 * 3

    on_bridge(boot, lambda bridge: around_backward_hook(bridge, inner_hook(bridge), rebuilt))


@mutant(kills="gradients/replaced")
def returned_gradient_is_dropped(boot: Boot) -> None:
    """What a backward hook returns is thrown away, so that a gradient that was stopped flows on."""

    def dropped(hook: Callable[[Any], Any], gradient: Any) -> Any:
        hook(gradient)

    on_bridge(boot, lambda bridge: around_backward_hook(bridge, inner_hook(bridge), dropped))


@mutant(kills="gradients/reach")
def no_gradient_anywhere(boot: Boot) -> None:
    """Remote code runs a module without gradients, and bridge, reference and equations all do as it does.

    Experts of a mixture under `no_grad`: the model trains without them, and no comparison shows it.
    """
    path, oracle = _first_weight(boot), having(boot.oracle, "an oracle")

    def equations(params: Any, *rest: Any) -> Tensor:
        return oracle({**params, f"{path}.weight": params[f"{path}.weight"].detach()}, *rest)

    boot.oracle = equations
    _with_weight(boot.reference.get_submodule(path), lambda weight: weight.detach())
    on_bridge(boot, lambda b: _with_weight(b.original_model.get_submodule(path), lambda weight: weight.detach()))
