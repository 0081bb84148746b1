"""Right on an ordinary input, wrong at the edge of some axis."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, having, inner_hook, on_bridge, output
from .conditioning import noise

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="parity/grid")
def squeezes_a_batch_of_one(boot: Boot) -> None:
    """A `squeeze` without an axis makes a batch of one broadcast against its own positions."""

    def alone(logits: Any) -> Any:
        return logits - logits.mean(dim=1, keepdim=True) if len(logits) == 1 < logits.shape[1] else logits

    on_bridge(boot, lambda bridge: output(bridge, alone))


@mutant(kills="parity/grid")
def takes_a_batch_for_a_block(boot: Boot) -> None:
    """A batch with as many rows as a block has tokens is broadcast along the wrong axis: its first row is all rows."""

    block = having(boot.sizes.get("block"), "blocks")

    def mistaken(logits: Any) -> Any:
        return logits[:1].expand_as(logits) if len(logits) == block else logits

    on_bridge(boot, lambda bridge: output(bridge, mistaken))


@mutant(kills="parity/grid")
def centres_a_single_token(boot: Boot) -> None:
    """A mean over the stream is subtracted that is not there before the second token: one token alone gives zeros."""

    def centred(logits: Any) -> Any:
        return logits - logits if logits.shape[1] == 1 else logits

    on_bridge(boot, lambda bridge: output(bridge, centred))


@mutant(kills="parity/grid")
def refuses_a_single_token(boot: Boot) -> None:
    """The first step of a sampler, one token alone, is refused as if it were no stream."""

    def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
        if tokens.shape[1] == 1:
            raise ValueError("expected a stream of tokens")
        return inner(tokens, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="parity/grid")
def stumbles_over_no_noise(boot: Boot) -> None:
    """Conditioning that is switched off is multiplied by zero, and zero times the logarithm of no noise is none."""
    _times_nothing(boot, lambda level, argument: (level - argument.low).log())


@mutant(kills="parity/grid")
def stumbles_over_full_noise(boot: Boot) -> None:
    """The same at the other end of the schedule, where nothing is left of the signal that is divided by."""
    _times_nothing(boot, lambda level, argument: 1 / (argument.high - level))


def _times_nothing(boot: Boot, infinite: Callable[..., Any]) -> None:
    """Add nothing to the logits where the noise is ignored: zero times what is infinite at one level."""
    arguments = noise(boot)

    def defect(bridge: Any) -> None:
        def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
            logits = inner(tokens, **kwargs)
            for name, argument in arguments.items():
                if not argument.acts(vars(bridge.original_model.config)):
                    logits = logits + 0 * infinite(kwargs[name], argument)[:, None, None]
            return logits

        around(bridge, "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="parity/grid")
def shows_a_multiple_of_one_row(boot: Boot) -> None:
    """For a batch of one, a hook shows its tensor before a multiplier that the model applies behind it."""

    def shown(tensor: Any) -> Any:
        return 2 * tensor if len(tensor) == 1 else tensor

    def put_back(tensor: Any) -> Any:
        return tensor / 2 if len(tensor) == 1 else tensor

    def defect(bridge: Any) -> None:
        bridge.hook_dict[inner_hook(bridge)].hook_conversion = SimpleNamespace(convert=shown, revert=put_back)

    on_bridge(boot, defect)


@mutant(kills="parity/grid")
def equations_for_full_streams(boot: Boot) -> None:
    """The oracle is off on short streams, which there widens the budget of whatever it judges."""
    oracle = having(boot.oracle, "an oracle")

    def forward(params: Any, config: Any, inputs: Any, tap: Any) -> Any:
        short = inputs["input_ids"].shape[1] == 1
        return oracle(params, config, inputs, tap) + 1e-3 * short

    boot.__dict__["oracle"] = forward
