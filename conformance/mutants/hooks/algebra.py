"""Terms of the residual stream that are not what their names say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import mutant
from ..surgery import on_bridge, redeclare

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="hooks/residual-algebra")
def branch_alias_on_a_dead_hook(boot: Boot) -> None:
    """`hook_attn_out` stands for a container that is never called, so the sum has a term without a value.

    TransformerLens PR #1673: components mapped to classes that cannot express them.
    """
    on_bridge(boot, lambda bridge: redeclare(bridge, "blocks.0", "hook_attn_out", "attn.hook_out"))


@mutant(kills="hooks/residual-algebra")
def stream_alias_behind_the_norm(boot: Boot) -> None:
    """`hook_resid_pre` stands for the normed stream: right name, right shape, wrong place (TransformerLens #1317)."""
    on_bridge(boot, lambda bridge: redeclare(bridge, "blocks.1", "hook_resid_pre", "ln1.hook_out"))
