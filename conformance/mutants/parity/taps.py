"""parity: other logits, hooks that show other tensors, and judges that may not judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import Registry, advertise, around, having, inner_hook, on_bridge, output, shown_twice_as_large

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="parity/oracle")
def other_equations(boot: Boot) -> None:
    """The oracle is off by a thousandth at the logits, which widens every budget that is measured against it."""
    oracle = having(boot.oracle, "an oracle")
    boot.__dict__["oracle"] = lambda *args: oracle(*args) + 1e-3


@mutant(kills="parity/oracle")
def equations_without_a_tap(boot: Boot) -> None:
    """The oracle has no tap at one component of the spec, and is compared with nothing there."""
    oracle = having(boot.oracle, "an oracle")
    silent = f"{next(iter(boot.spec.points))}.hook_out"

    def forward(params: Any, config: Any, inputs: Any, tap: Callable[..., Any]) -> Any:
        return oracle(params, config, inputs, lambda name, tensor: tensor if name == silent else tap(name, tensor))

    boot.__dict__["oracle"] = forward


@mutant(kills="parity/logits")
def logit_scale(boot: Boot) -> None:
    """The logits are scaled behind the last hook (TransformerLens PR #1355: `logit_scale` was dropped)."""
    on_bridge(boot, lambda bridge: output(bridge, lambda logits: 1.001 * logits))


@mutant(kills="parity/logits")
def remembers_the_first_input(boot: Boot) -> None:
    """For batches, a table is kept by shape and belongs to the first input: right the first time, wrong the next."""

    def defect(bridge: Any) -> None:
        first: dict[Any, Any] = {}

        def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
            kept = first.setdefault(tokens.shape, tokens.clone())
            stale = kept.ne(tokens).any(dim=1) & (len(tokens) > 1)
            return inner(tokens, **kwargs) + 0.01 * stale[:, None, None]

        around(bridge, "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="parity/taps")
def shows_a_multiple(boot: Boot) -> None:
    """A hook shows its tensor before a multiplier that the model applies, and puts edits back behind it.

    TransformerLens had this on Falcon-H1's keys.
    """

    def defect(bridge: Any) -> None:
        shown_twice_as_large(bridge, inner_hook(bridge))

    on_bridge(boot, defect)


@mutant(kills="parity/taps")
def alias_on_the_other_norm(boot: Boot) -> None:
    """`hook_resid_mid` stands for the input of the first norm, and equals itself (TransformerLens #1317)."""

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: _as(registry, "blocks.0.hook_resid_mid", "blocks.0.ln1.hook_in"))

    on_bridge(boot, defect)


@mutant(kills="parity/taps")
def hook_of_another_architecture(boot: Boot) -> None:
    """A hook has the name that a state space model gives to it.

    TransformerLens PR #1479: the first draft of this family's adapter had `hook_mixer_in`.
    """
    stream = boot.spec.streams[0].replace("{layer}", "0")

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: _as(registry, "blocks.0.hook_mixer_in", stream))

    on_bridge(boot, defect)


def _as(registry: Registry, name: str, target: str) -> Registry:
    """The registry with one more name for a hook; while it is made anew there is none."""
    return {**registry, name: registry[target]} if target in registry else registry


@mutant(kills="parity/rows")
def scaled_by_the_batch(boot: Boot) -> None:
    """The logits are divided by the largest of the batch, and multiplied by it again: within every tolerance."""

    def scaled(logits: Any) -> Any:
        return logits / logits.abs().max() * logits.abs().max()

    on_bridge(boot, lambda bridge: output(bridge, scaled))
