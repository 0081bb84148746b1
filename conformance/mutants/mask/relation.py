"""mask: cells that are wrong where no one looks, masks that are not used, and ways around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, component, on_bridge

if TYPE_CHECKING:
    from torch import Tensor

    from ...layout import MaskTensor
    from ...subject import Boot


def _mask(boot: Boot) -> MaskTensor:
    return next(layout.mask for layout in boot.spec.layouts if layout.mask is not None)


def _holder(bridge: Any, mask: MaskTensor) -> tuple[Any, str]:
    owner, _, name = mask.path.rpartition(".")
    return bridge.original_model.get_submodule(owner), name


@mutant(kills="mask/relation-tensor")
def not_even_itself(boot: Boot) -> None:
    """No position may attend to itself, a `<` for a `<=`; the residual connection hides it from every perturbation."""

    def defect(bridge: Any) -> None:
        owner, name = _holder(bridge, _mask(boot))
        setattr(owner, name, getattr(owner, name).clone().fill_diagonal_(False))

    on_bridge(boot, defect)


@mutant(kills="mask/relation-tensor")
def left_on_meta(boot: Boot) -> None:
    """The mask, no buffer, stays on the meta device when the model is loaded, and is made anew in every forward."""

    def defect(bridge: Any) -> None:
        owner, name = _holder(bridge, _mask(boot))
        mask = getattr(owner, name)
        _while_running(bridge, _mask(boot), mask)
        setattr(owner, name, mask.to("meta"))

    on_bridge(boot, defect)


@mutant(kills="mask/relation")
def one_pair_less(boot: Boot) -> None:
    """The mask that is used lacks one pair that the mask that is held allows; over two layers there is a way round."""

    def defect(bridge: Any) -> None:
        owner, name = _holder(bridge, _mask(boot))
        used = getattr(owner, name).clone()
        used[_roundabout(used)] = False
        _while_running(bridge, _mask(boot), used)

    on_bridge(boot, defect)


@mutant(kills="mask/closure")
def mixes_between_layers(boot: Boot) -> None:
    """Between two layers every position receives a mean over the stream, past any mask."""
    last, _, _ = boot.spec.streams[0].replace("{layer}", str(boot.layers - 1)).rpartition(".")
    on_bridge(boot, lambda bridge: around(component(bridge, last), "forward", _with_mean))


@mutant(kills="mask/closure")
def mixes_before_the_logits(boot: Boot) -> None:
    """After the last layer the output takes a mean over the stream: the answer leaks where no mask reaches."""
    last = list(boot.spec.points)[-1]
    on_bridge(boot, lambda bridge: around(component(bridge, last), "forward", _with_mean))


def _with_mean(inner: Callable[..., Any], stream: Tensor, *args: Any, **kwargs: Any) -> Any:
    return inner(stream + stream.mean(dim=1, keepdim=True), *args, **kwargs)


def _roundabout(allowed: Tensor) -> tuple[int, int]:
    """A pair that may attend, and may as well do so by way of a third position."""
    step = allowed.float().fill_diagonal_(0.0)
    query, key = (allowed & ((step @ step) > 0) & (step > 0)).nonzero()[-1].tolist()
    return query, key


def _while_running(bridge: Any, mask: MaskTensor, used: Tensor) -> None:
    """Use another mask in forwards than the one that is held in between."""
    owner, name = _holder(bridge, mask)

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        held = getattr(owner, name)
        setattr(owner, name, used)
        try:
            return inner(*args, **kwargs)
        finally:
            setattr(owner, name, held)

    around(bridge, "forward", forward)
