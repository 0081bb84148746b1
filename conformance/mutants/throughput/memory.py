"""Memory: tensors that a bridge remembers for itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around_firing, on_bridge, output

if TYPE_CHECKING:
    from torch import Tensor

    from ...subject import Boot


@mutant(kills="throughput/held")
def keeps_the_stream(boot: Boot) -> None:
    """The residual stream of the last forward stays with the bridge, for a debugger that no one has open."""
    stream = boot.spec.streams[1].replace("{layer}", "0")

    def fire(bridge: Any, inner: Callable[[Any], Any], tensor: Tensor) -> Any:
        if not tensor.requires_grad:
            object.__setattr__(bridge, "last_stream", tensor)
        return inner(tensor)

    def defect(bridge: Any) -> None:
        around_firing(bridge, bridge.hook_dict[stream].name, lambda inner, tensor: fire(bridge, inner, tensor))

    on_bridge(boot, defect)


@mutant(kills="throughput/growth")
def remembers_all_logits(boot: Boot) -> None:
    """A history of logits, kept for a plot, grows by a tensor with every fortieth forward."""

    def defect(bridge: Any) -> None:
        history: list[Tensor] = []
        forwards = count(1)

        def remember(logits: Tensor) -> Tensor:
            if next(forwards) % 40 == 0:
                history.append(logits.detach().clone())
            return logits

        output(bridge, remember)

    on_bridge(boot, defect)
