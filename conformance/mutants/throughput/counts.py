"""Counts: work that is done twice, or for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, component, having, on_bridge, output

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="throughput/flops")
def padded_width(boot: Boot) -> None:
    """The MLP is padded with zeros to a width that some kernel likes: same values, same operators, more arithmetic."""

    def defect(bridge: Any) -> None:
        from torch.nn.functional import pad

        for name in ("in", "gate"):
            if f"blocks.{{layer}}.mlp.{name}" not in boot.spec.points:
                continue
            wide = component(bridge, f"blocks.0.mlp.{name}").original_component
            wide.weight.data = pad(wide.weight.data, (0, 0, 0, 8))
            if wide.bias is not None:
                wide.bias.data = pad(wide.bias.data, (0, 8))
        narrow = component(bridge, "blocks.0.mlp.out").original_component
        narrow.weight.data = pad(narrow.weight.data, (0, 8))

    having("blocks.{layer}.mlp.in" in boot.spec.points or None, "an MLP of two linear modules")
    on_bridge(boot, defect)


@mutant(kills="throughput/operators")
def one_copy_more(boot: Boot) -> None:
    """Every forward copies its logits once more than it has to."""
    on_bridge(boot, lambda bridge: output(bridge, lambda logits: logits.clone()))


@mutant(kills="throughput/python-calls")
def asks_every_module(boot: Boot) -> None:
    """Every forward asks every module whether it is in eval mode, as code does that trusts nobody."""

    def defect(bridge: Any) -> None:
        modules = bridge.original_model.modules

        def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            assert not any(module.training for module in modules())
            return inner(*args, **kwargs)

        around(bridge, "forward", forward)

    on_bridge(boot, defect)
