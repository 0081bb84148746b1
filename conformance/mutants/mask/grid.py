"""mask: right on the model it was tried on, wrong at another length, block size, or end of the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import masked, on_bridge
from .relation import holder, while_running, without

if TYPE_CHECKING:
    from torch import Tensor

    from ...subject import Boot

TILE = 4


@mutant(kills="mask/grid")
def blocks_are_tiles(boot: Boot) -> None:
    """Where the length is a multiple of the kernel's tile, the mask is made of tiles, whatever the block size."""

    def defect(bridge: Any) -> None:
        owner, name = holder(bridge, masked(boot))
        n = _size(boot, bridge, "n")
        if n % TILE == 0:
            setattr(owner, name, _closed_form(boot, n, TILE, len(getattr(owner, name))))

    on_bridge(boot, defect)


@mutant(kills="mask/grid")
def even_lengths_lose_the_last_block(boot: Boot) -> None:
    """At even lengths the mask that is used ends one block early: an n that is one too small, rounded down."""
    masked(boot)

    def defect(bridge: Any) -> None:
        block = _size(boot, bridge, "block")

        def change(held: Tensor, tokens: Tensor) -> Tensor:
            import torch

            cut = held.clone()
            cut[-block:] = torch.eye(len(held), dtype=torch.bool)[-block:]
            return cut

        if _size(boot, bridge, "n") % 2 == 0:
            while_running(bridge, masked(boot), change)

    on_bridge(boot, defect)


@mutant(kills="mask/grid")
def a_lone_last_token(boot: Boot) -> None:
    """Where the last block of a stream has one token only, that token does not see the one before it."""

    def defect(bridge: Any) -> None:
        owner, name = holder(bridge, masked(boot))
        if not hasattr(owner, name):
            # A variant that needs none.
            return
        n, block, built = _size(boot, bridge, "n"), _size(boot, bridge, "block"), getattr(owner, name)

        def change(held: Tensor, tokens: Tensor) -> Tensor:
            length = tokens.shape[1]
            # A stream of one half is the clean one, the last of the mask.
            last = len(held) - n + length - 1
            lone = block > 1 == length % block and 1 < length < n
            # On a live bridge the block size may have been set to another since.
            return without(held, last, last - 1) if lone and held is built else held

        while_running(bridge, masked(boot), change)

    on_bridge(boot, defect)


def _size(boot: Boot, bridge: Any, name: str) -> int:
    return int(getattr(bridge.original_model.config, boot.spec.sizes[name]))


def _closed_form(boot: Boot, n: int, block: int, length: int) -> Tensor:
    import torch

    index = torch.arange(length)
    return torch.as_tensor(masked(boot).relation(index[:, None], index[None, :], n, block))
