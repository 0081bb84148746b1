"""Stand-ins that are another model than the one they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import mutant
from ..surgery import output_layer

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="parity/stand-in")
def another_unembedding(boot: Boot) -> None:
    """The miniature's code has a logit scale that the released code does not have."""
    _, path = output_layer(boot)
    boot.stand_in.get_submodule(path).register_forward_hook(lambda module, args, output: 1.001 * output)
