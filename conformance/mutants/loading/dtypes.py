"""Boots in another precision that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, on_bridge

if TYPE_CHECKING:
    import torch

    from ...subject import Boot


def answering(boot: Boot, dtype: torch.dtype, change: Callable[[Any], Any]) -> None:
    """Let boots in one dtype return what `change` makes of the logits of the boot in fp32."""

    def defect(bridge: Any) -> None:
        def forward(_: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return change(boot.bridge(*args, **kwargs)).to(dtype)

        if next(bridge.original_model.parameters()).dtype is dtype:
            around(bridge, "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="loading/dtypes")
def dtype_ignored(boot: Boot) -> None:
    """The dtype that is asked for does not reach the loader, and everything stays in fp32."""

    def boot_again(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("dtype", None)
        return inner(*args, **kwargs)

    around(boot, "boot_again", boot_again)


@mutant(kills="loading/dtypes")
def single_inside(boot: Boot) -> None:
    """The model computes in fp32 whatever it holds, and casts at the end: fp64 with seven digits."""
    import torch

    answering(boot, torch.float64, lambda logits: logits)


@mutant(kills="loading/dtypes")
def another_kernel(boot: Boot) -> None:
    """The kernel for half precision runs the stream backwards."""
    import torch

    answering(boot, torch.bfloat16, lambda logits: logits.flip(1))
