"""mask: another model in a limit, and halves that no longer say what the text alone would."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, first, from_the_second_on, having, on_bridge, on_this_model, output
from .relation import at_own_size

if TYPE_CHECKING:
    from torch import Tensor

    from ...subject import Boot


@mutant(kills="mask/limits")
def full_diffusion_is_normalised(boot: Boot) -> None:
    """With one block the bridge returns log-probabilities, as full diffusion models' own code does."""
    _in_the_limit(boot, "n", lambda logits: logits.log_softmax(dim=-1))


@mutant(kills="mask/limits")
def autoregression_is_shifted(boot: Boot) -> None:
    """With blocks of one the logits move on by one position, as if they were those of a next token."""
    _in_the_limit(boot, "1", lambda logits: logits.roll(1, dims=1))


@mutant(kills="mask/consistency")
def clean_half_is_projected_apart(boot: Boot) -> None:
    """The clean half is projected by weights of its own, which follow those of the noisy half late."""

    def late(fire: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
        return 0.98 * fire(tensor)

    on_this_model(boot, lambda bridge: from_the_second_on(boot, bridge, late))


@mutant(kills="mask/consistency")
def mirrored_positions(boot: Boot) -> None:
    """Alone, a text is rotated by positions that run backwards, as forced left padding had it (TransformerLens #1690).

    Who may attend to whom is as it was.
    """
    halves = having(boot.spec.halves, "a stream in two halves")
    alone = boot.pairs[halves.alone].layout

    def defect(bridge: Any) -> None:
        running: list[bool] = []

        def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            running[:] = [all(kwargs.get(name) == v for name, v in alone.arguments.items() if isinstance(v, bool))]
            return inner(*args, **kwargs)

        def mirrored(module: Any, args: Any, tables: Any) -> Any:
            return tuple(table.flip(1) for table in tables) if running[0] and _rotates(tables) else None

        around(bridge, "forward", forward)
        for module in bridge.original_model.modules():
            module.register_forward_hook(mirrored)

    at_own_size(boot, defect)


def _in_the_limit(boot: Boot, block: str, change: Callable[[Tensor], Tensor]) -> None:
    """Change the logits of bridges whose block size is that of a limit."""
    from ...sizes import Size

    first((limit for limit in boot.spec.limits if limit.block == block), "a limit at that block size")

    def defect(bridge: Any) -> None:
        config = bridge.original_model.config
        sizes = {size: getattr(config, field) for size, field in boot.spec.sizes.items()}
        if sizes["block"] == Size(block).of(sizes):
            output(bridge, change)

    on_bridge(boot, defect)


def _rotates(tables: Any) -> bool:
    """Whether a module returned cosines and sines."""
    import torch

    if not isinstance(tables, tuple) or len(tables) != 2 or not all(isinstance(t, torch.Tensor) for t in tables):
        return False
    one, other = tables
    return one.shape == other.shape and bool((one.square() + other.square() - 1).abs().max() < 1e-5)
