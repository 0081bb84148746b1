"""Forwards that take what they should refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, first, on_bridge, on_this_model

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/unknown-keyword")
def dies_deep_inside(boot: Boot) -> None:
    """A keyword that no one knows is carried along until it breaks something that does not name it.

    TransformerLens #1680: `incl_bwd` fell through the keywords into the model.
    """
    known = {"return_type", *(name for layout in boot.spec.layouts for name in layout.arguments)}

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if kwargs.keys() - known:
            raise RuntimeError("The size of tensor a (42) must match the size of tensor b (21)")
        return inner(*args, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


def tolerant(boot: Boot, change: Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]) -> None:
    """Let `change(tokens, arguments)` mend what a forward is given before it runs."""

    def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
        tokens, kwargs = change(tokens, kwargs)
        return inner(tokens, **kwargs)

    on_this_model(boot, lambda bridge: around(bridge, "forward", forward))


def per_row(boot: Boot) -> str:
    """An argument that wants one number per row."""
    from ...layout import PerRow

    arguments = (item for layout in boot.spec.layouts for item in layout.arguments.items())
    return first((name for name, value in arguments if isinstance(value, PerRow)), "an argument with a value per row")


@mutant(kills="loading/wrong-input")
def clipped(boot: Boot) -> None:
    """Ids beyond the vocabulary are clipped to its last one, which in this model is the mask."""
    last = boot.sizes["d_vocab"] - 1
    tolerant(boot, lambda tokens, given: (tokens.clamp(max=last), given))


@mutant(kills="loading/wrong-input")
def cut_short(boot: Boot) -> None:
    """A stream that is too long is cut to what fits."""
    longest = max(pair.length for pair in boot.pairs.values())

    def change(tokens: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return tokens[:, :longest], given

    tolerant(boot, change)


@mutant(kills="loading/wrong-input")
def filled_up(boot: Boot) -> None:
    """A stream that is too short for its layout is filled up with token 0."""
    longest = max(pair.length for pair in boot.pairs.values())
    fixed = first((layout for layout in boot.spec.layouts if not layout.ragged), "a layout of one length")

    def change(tokens: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        import torch

        missing = longest - tokens.shape[1]
        if given.keys() <= fixed.arguments.keys() and tokens.shape[1]:
            tokens = torch.nn.functional.pad(tokens, (0, max(missing, 0)))
        return tokens, given

    tolerant(boot, change)


@mutant(kills="loading/wrong-input")
def cast_to_whole_numbers(boot: Boot) -> None:
    """Token ids of any dtype are cast: probabilities become token 0."""
    tolerant(boot, lambda tokens, given: (tokens.long(), given))


@mutant(kills="loading/wrong-input")
def flattened(boot: Boot) -> None:
    """A third axis of the tokens is dropped, with all but its first entry."""
    tolerant(boot, lambda tokens, given: (tokens[..., 0] if tokens.ndim == 3 else tokens, given))


@mutant(kills="loading/wrong-input")
def made_up(boot: Boot) -> None:
    """An argument that is left out is 0 in silence, also where it conditions: the noise level of a clean text."""
    name = per_row(boot)

    def forward(inner: Callable[..., Any], tokens: Any, **given: Any) -> Any:
        import torch

        return inner(tokens, **{**given, name: torch.zeros(len(tokens)) if given.get(name) is None else given[name]})

    # Leaving it out only matters under a config in which it acts.
    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="loading/wrong-input")
def another_when_left_out(boot: Boot) -> None:
    """Where an argument has no effect it may be left out, and then another path gives other logits."""
    name = per_row(boot)

    def forward(inner: Callable[..., Any], tokens: Any, **given: Any) -> Any:
        import torch

        if given.get(name) is None:
            return 2 * inner(tokens, **{**given, name: torch.zeros(len(tokens))})
        return inner(tokens, **given)

    on_this_model(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="loading/wrong-input")
def other_rows_values(boot: Boot) -> None:
    """One value too many for the batch is dropped, and an axis too many flattened: rows may get each other's values."""
    name = per_row(boot)

    def change(tokens: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        import torch

        value = given.get(name)
        return tokens, {**given, name: value.flatten()[: len(tokens)]} if isinstance(value, torch.Tensor) else given

    tolerant(boot, change)


@mutant(kills="loading/wrong-input")
def dies_of_nan(boot: Boot) -> None:
    """A value that is no number is carried along until something deep inside, with no name for it, gives up."""
    name = per_row(boot)

    def change(tokens: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        import torch

        value = given.get(name)
        if isinstance(value, torch.Tensor) and value.isnan().any():
            raise RuntimeError("probability tensor contains either inf, nan or element < 0")
        return tokens, given

    tolerant(boot, change)
