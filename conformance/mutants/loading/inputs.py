"""Forwards that take what they should refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/unknown-keyword")
def dies_deep_inside(boot: Boot) -> None:
    """A keyword that no one knows is carried along until it breaks something that does not name it.

    TransformerLens #1680: `incl_bwd` fell through the keywords into the model.
    """
    known = {"return_type", *(name for layout in boot.spec.layouts for name in layout.arguments)}

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if kwargs.keys() - known:
            raise RuntimeError("The size of tensor a (42) must match the size of tensor b (21)")
        return inner(*args, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))
