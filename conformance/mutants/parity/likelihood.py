"""Right wherever something is revealed, wrong on a canvas that is masked whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, having, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


COPIES = "a text and its masked copy in one forward"


def _where(boot: Boot, which: Callable[[Any], Any], factor: float) -> None:
    """Multiply the logits of the rows whose hidden tokens, bool `row pos`, are of a kind."""
    mask = having(boot.spec.mask_token if boot.spec.halves else None, COPIES)

    def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
        logits = inner(tokens, **kwargs)
        rows = which(tokens == mask.of(boot.sizes))
        logits[rows] = logits[rows] * factor
        return logits

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


def _whole_text(boot: Boot) -> Callable[[Any], Any]:
    return lambda hidden: hidden.sum(dim=1) == boot.sizes["n"]


@mutant(kills="parity/likelihood")
def no_number_for_a_masked_text(boot: Boot) -> None:
    """Where a whole text is masked, nothing is left to attend to, and a softmax over nothing is no number."""
    _where(boot, _whole_text(boot), float("nan"))


@mutant(kills="parity/likelihood")
def surer_of_a_masked_text(boot: Boot) -> None:
    """Where a whole text is masked, the logits are scaled as if the masks were padding."""
    _where(boot, _whole_text(boot), 1.01)


@mutant(kills="parity/likelihood")
def surer_without_a_prompt(boot: Boot) -> None:
    """A stream of nothing but masks, the first canvas of a sampler, is answered with other logits than a text's."""
    _where(boot, lambda hidden: hidden.all(dim=1), 1.01)


@mutant(kills="parity/likelihood")
def nobody_says_how_to_read_them(boot: Boot) -> None:
    """The spec of a masked model does not say how its logits become probabilities, and no likelihood is judged."""
    having(boot.spec.halves, COPIES)
    boot.spec = replace(boot.spec, parameterisation=None)
