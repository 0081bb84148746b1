"""Entries that are missing, made up, partial, late, shared, or that cost the run its logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import Entries, around, caching, component, on_bridge, output_layer, part_of_stream

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="cache/observes")
def another_kernel(boot: Boot) -> None:
    """`run_with_cache` asks for attention weights and so runs a kernel that rounds differently."""

    def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        returned, cache = inner(*args, **kwargs)
        logits = getattr(returned, "shape", ())[-1:] == (boot.sizes["d_vocab"],)
        return returned * (1 + 1e-6) if logits else returned, cache

    on_bridge(boot, lambda bridge: around(bridge, "run_with_cache", run_with_cache))


@mutant(kills="cache/complete")
def aliases_left_out(boot: Boot) -> None:
    """The default sweep keeps canonical names only, and `cache["hook_unembed"]` is a KeyError."""

    def change(entries: Entries, options: Entries) -> Entries:
        return entries if options else {n: v for n, v in entries.items() if n != "hook_unembed"}

    caching(boot, change)


@mutant(kills="cache/complete")
def made_up_entry(boot: Boot) -> None:
    """An entry stands for a hook that never fires, filled in from elsewhere so that no one misses it."""

    def change(entries: Entries, asked: Any) -> Entries:
        first = next(iter(entries.values()), None)
        return entries if asked or first is None else {**entries, "blocks.0.attn.hook_result": first.clone()}

    caching(boot, change)


@mutant(kills="cache/keeps-every-firing")
def keeps_the_first_firing(boot: Boot) -> None:
    """Of a hook that fires once per part of the stream the entry holds the first part, not the last, nor all."""
    from transformer_lens.utilities.slice import Slice

    pattern = part_of_stream(boot)
    name = pattern.replace("{layer}", "0") + ".hook_out"

    def defect(bridge: Any) -> None:
        def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            seen: list[Any] = []
            with bridge.hooks(fwd_hooks=[(name, lambda tensor, hook: seen.append(tensor.clone()))]):
                logits, cache = inner(*args, **kwargs)
            entries = cache if isinstance(cache, dict) else cache.cache_dict
            if name in entries:
                kept = Slice.unwrap(kwargs.get("pos_slice")).apply(seen[0], dim=1).to(kwargs.get("device"))
                entries[name] = kept[0] if kwargs.get("remove_batch_dim") else kept
            return logits, cache

        around(bridge, "run_with_cache", run_with_cache)

    on_bridge(boot, defect)


@mutant(kills="cache/values")
def follows_changes_in_place(boot: Boot) -> None:
    """A module goes on writing into the tensor that its hook has shown (TransformerLens PR #1187)."""
    name, _ = output_layer(boot)

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        shown = inner(*args, **kwargs)
        kept = shown.clone()
        # At one position, which a slice need not contain; past autograd, which would refuse it.
        shown.data[:, 0] += 1
        return kept

    on_bridge(boot, lambda bridge: around(component(bridge, name), "forward", forward))


@mutant(kills="cache/values")
def alias_holds_another_tensor(boot: Boot) -> None:
    """The entry under an alias is another tensor than the one that the hook it stands for fired with."""

    caching(boot, lambda entries, _: {n: v + 1 if n == "hook_unembed" else v for n, v in entries.items()})


@mutant(kills="cache/values")
def half_of_nothing(boot: Boot) -> None:
    """The entry of a hook with several firings has room for one and was filled by none."""
    pattern = part_of_stream(boot)
    name = pattern.replace("{layer}", "0") + ".hook_out"
    caching(boot, lambda entries, _: {n: value * 0 if n == name else value for n, value in entries.items()})


@mutant(kills="cache/own-storage")
def kept_by_the_model(boot: Boot) -> None:
    """The model keeps a tensor that it has shown, to go on from it: changing the entry changes the model."""
    name, _ = output_layer(boot)

    def defect(bridge: Any) -> None:
        def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            bridge.original_model.__dict__["last"] = shown = inner(*args, **kwargs)
            return shown

        around(component(bridge, name), "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="cache/own-storage")
def buffers_reused_by_the_next_run(boot: Boot) -> None:
    """The cache writes into buffers that it keeps, so a second run overwrites the cache of the first."""
    buffers: Entries = {}

    def change(entries: Entries, _: Any) -> Entries:
        for name, value in entries.items():
            if name not in buffers or (buffers[name].shape, buffers[name].device) != (value.shape, value.device):
                buffers[name] = value.clone()
            buffers[name].copy_(value)
        return {name: buffers[name].detach() for name in entries}

    caching(boot, change)


@mutant(kills="cache/order")
def sorted_by_name(boot: Boot) -> None:
    """Keys are sorted, so the last layer norm stands before the first block and block 10 before block 2."""
    caching(boot, lambda entries, _: dict(sorted(entries.items())))


@mutant(kills="cache/repeats")
def piles_up(boot: Boot) -> None:
    """A hook adds to what it kept in its context at the last run, which no one has cleared."""
    name, kept = f"{next(iter(boot.spec.points))}.hook_out", dict[Any, Any]()

    def change(entries: Entries, options: Entries) -> Entries:
        now = entries.get(name)
        if options or now is None:
            return entries
        kept[now.shape] = now + kept.get(now.shape, 0)
        return {**entries, name: kept[now.shape]}

    caching(boot, change)


@mutant(kills="cache/memory")
def window_of_a_buffer(boot: Boot) -> None:
    """Entries are windows of a buffer with room for a larger batch, all of which stays in memory."""

    def change(entries: Entries, options: Entries) -> Entries:
        return entries if options else {n: v.repeat(2, *[1] * (v.ndim - 1))[: len(v)] for n, v in entries.items()}

    caching(boot, change)


@mutant(kills="cache/memory")
def remembers_its_last_cache(boot: Boot) -> None:
    """The bridge keeps its last cache as an attribute, for convenience, and with it every activation."""
    last: Entries = {}

    def change(entries: Entries, _: Entries) -> Entries:
        last.clear()
        last.update(entries)
        return entries

    caching(boot, change)
