"""Terms of the residual stream that are not what their names say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import advertise, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/residual-algebra")
def branch_alias_on_a_dead_hook(boot: Boot) -> None:
    """`hook_attn_out` stands for a container that is never called, so the sum has a term without a value.

    TransformerLens PR #1673: components mapped to classes that cannot express them.
    """

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda r: {**r, "blocks.0.hook_attn_out": r["blocks.0.attn.hook_out"]})

    on_bridge(boot, defect)


@mutant(kills="hooks/residual-algebra")
def stream_alias_behind_the_norm(boot: Boot) -> None:
    """`hook_resid_pre` stands for the normed stream: right name, right shape, wrong place (TransformerLens #1317)."""

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda r: {**r, "blocks.1.hook_resid_pre": r["blocks.1.ln1.hook_out"]})

    on_bridge(boot, defect)
