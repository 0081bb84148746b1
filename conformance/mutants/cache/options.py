"""Options that are dropped, that do more than they say, or less."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import Entries, around, caching, on_bridge

if TYPE_CHECKING:
    from ...subject import Boot


def dropping(boot: Boot, name: str, when: Callable[[Any], bool] = lambda value: True) -> None:
    """Let `run_with_cache` ignore a keyword."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return inner(*args, **{key: value for key, value in kwargs.items() if key != name or not when(value)})

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/keywords")
def keyword_on_the_floor(boot: Boot) -> None:
    """`run_with_cache` takes a keyword of the forward and does not pass it on (TransformerLens issue #1624)."""
    dropping(boot, "return_type")


@mutant(kills="cache/one-row")
def opaque_for_one_row(boot: Boot) -> None:
    """Tokens without a batch axis die of a shape (TransformerLens issue #1050)."""

    def run_with_cache(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
        return inner(tokens, sequence=tokens.shape[1], **kwargs) if tokens.ndim == 1 else inner(tokens, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/one-row")
def one_row_is_reversed(boot: Boot) -> None:
    """Tokens without a batch axis are padded from the wrong end, and the row is another one."""

    def run_with_cache(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
        return inner(tokens.flip(0) if tokens.ndim == 1 else tokens, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/batch-dim")
def squeezes_every_axis(boot: Boot) -> None:
    """`remove_batch_dim` squeezes, and the scale of a norm loses its last axis too."""

    def change(entries: Entries, options: Entries) -> Entries:
        return {n: v.squeeze() for n, v in entries.items()} if "remove_batch_dim" in options else entries

    caching(boot, change)


@mutant(kills="cache/batch-dim")
def first_row_of_many(boot: Boot) -> None:
    """`remove_batch_dim` takes the first row of any batch, and the others are gone without a word."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, remove_batch_dim: bool = False, **kwargs: Any) -> Any:
        returned, cache = inner(*args, **kwargs)
        return returned, {n: v[0] for n, v in cache.items()} if remove_batch_dim else cache

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/pos-slice")
def whole_stream(boot: Boot) -> None:
    """`pos_slice` is accepted and dropped, and entries have all positions (TransformerLens PR #1682)."""
    dropping(boot, "pos_slice")


@mutant(kills="cache/pos-slice")
def slices_the_channels(boot: Boot) -> None:
    """`pos_slice` takes the last axis but one for the batch and cuts the channels (TransformerLens PR #1682)."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, pos_slice: Any = None, **kwargs: Any) -> Any:
        from transformer_lens.utilities.slice import Slice

        returned, cache = inner(*args, **kwargs)
        kept = Slice.unwrap(pos_slice)
        return returned, cache if pos_slice is None else {n: kept.apply(v, dim=-1) for n, v in cache.items()}

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/device")
def stays_where_it_is(boot: Boot) -> None:
    """`device` is dropped, and the cache fills the memory that it was to leave."""
    dropping(boot, "device")


@mutant(kills="cache/device")
def takes_the_model_along(boot: Boot) -> None:
    """The config says for good that the model went where the cache did (TransformerLens PR #1345)."""

    def defect(bridge: Any) -> None:
        def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            got = inner(*args, **kwargs)
            bridge.cfg.device = kwargs.get("device", bridge.cfg.device)
            return got

        around(bridge, "run_with_cache", run_with_cache)

    on_bridge(boot, defect)


@mutant(kills="cache/plain-dict")
def always_an_object(boot: Boot) -> None:
    """`return_cache_object=False` gives the object all the same."""
    dropping(boot, "return_cache_object")


@mutant(kills="cache/stop-at-layer")
def zero_is_false(boot: Boot) -> None:
    """`if stop_at_layer:` takes layer 0 for "not at all", and the model runs to its end."""
    dropping(boot, "stop_at_layer", when=lambda layer: layer == 0)


@mutant(kills="cache/stop-at-layer")
def runs_to_the_end(boot: Boot) -> None:
    """What is asked for is returned and cached, but all later layers have run (TransformerLens PR #1100)."""

    def defect(bridge: Any) -> None:
        def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            returned, cache = inner(*args, **kwargs)
            if kwargs.pop("stop_at_layer", boot.layers) < boot.layers:
                inner(*args, **kwargs)
            return returned, cache

        around(bridge, "run_with_cache", run_with_cache)

    on_bridge(boot, defect)


@mutant(kills="cache/incl-bwd")
def no_gradients_and_no_word(boot: Boot) -> None:
    """`incl_bwd` falls through and is lost, and there are no gradients and no error (TransformerLens issue #1680)."""
    dropping(boot, "incl_bwd")
