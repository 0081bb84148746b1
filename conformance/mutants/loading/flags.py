"""Compatibility modes that are another model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, component, on_bridge, output_layer

if TYPE_CHECKING:
    from ...subject import Boot


def processed(boot: Boot, flag: str, change: Callable[[Any, int], None]) -> None:
    """Let `change(unembedding, times)` follow whenever compatibility mode is enabled with a flag."""
    unembed, _ = output_layer(boot)

    def defect(bridge: Any) -> None:
        times: list[str] = []

        def enable(inner: Callable[..., Any], **kwargs: Any) -> Any:
            inner(**kwargs)
            if kwargs.get(flag):
                times.append(flag)
                change(component(bridge, unembed).original_component, len(times))

        around(bridge, "enable_compatibility_mode", enable)

    on_bridge(boot, defect)


@mutant(kills="loading/processing-flags")
def centred_over_channels(boot: Boot) -> None:
    """The unembedding is centred over its channels instead of the vocabulary."""

    def change(unembedding: Any, times: int) -> None:
        unembedding.weight.data -= unembedding.weight.data.mean(dim=-1, keepdim=True)

    processed(boot, "center_unembed", change)


@mutant(kills="loading/processing-flags")
def applied_again(boot: Boot) -> None:
    """A factor is folded in once more by every call (TransformerLens PR #1770 scaled the logits twice)."""

    def change(unembedding: Any, times: int) -> None:
        unembedding.weight.data *= 2 if times > 1 else 1

    processed(boot, "fold_value_biases", change)


@mutant(kills="loading/processing-flags")
def finds_no_key(boot: Boot) -> None:
    """Processing looks for weights under names that the model does not have, and dies on the first one."""

    def change(unembedding: Any, times: int) -> None:
        raise KeyError("blocks.0.attn.W_V")

    processed(boot, "fold_value_biases", change)


@mutant(kills="loading/processing-flags")
def runs_no_more(boot: Boot) -> None:
    """After processing a weight has a shape that the forward cannot use."""

    def change(unembedding: Any, times: int) -> None:
        unembedding.weight.data = unembedding.weight.data[:, :-1]

    processed(boot, "refactor_factored_attn_matrices", change)
