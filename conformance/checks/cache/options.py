"""Options: each does what it says to the cache, and nothing to the run. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from . import runs

if TYPE_CHECKING:
    from torch import Tensor

    from ...pair import Pair


@requirement("cache/keywords", level=MUST, needs=("loading/runs",))
def keywords(pair: Pair) -> Iterator[Finding]:
    """Keywords of a forward MUST mean the same to `run_with_cache`: the same value returned, or the same error.

    `run_with_cache` once ignored `prepend_bos=False`, and the cache was of another prompt (TransformerLens issue
    #1624). The last bit of the logits is the matter of cache/observes.
    """
    from ...pair import SubjectRaised

    got = runs.at_the_last_position(pair)
    want: Any
    try:
        want = pair.guarded(pair.boot.bridge, **runs.KEYWORDS)
    except SubjectRaised as error:
        want = str(error)
    given = ", ".join(f"{name}={value!r}" for name, value in runs.KEYWORDS.items())
    yield from _same(pair, given, got if isinstance(got, str) else got.returned, want)


@requirement("cache/one-row", level=MUST, needs=("cache/complete",))
def one_row(pair: Pair) -> Iterator[Finding]:
    """Tokens without a batch axis MUST give logits and cache of that row as a batch of one, or a clear error.

    A single prompt is what everyone tries first; it once died in a shape error (TransformerLens issue #1050).
    """
    from ...compare import PATHS, close
    from ...pair import SubjectRaised

    row = pair.batched(1)
    try:
        logits, cache = pair.cache({**row, "input_ids": row["input_ids"][0]})
    except SubjectRaised as error:
        if not any(word in str(error) for word in ("batch", "input_ids", "tokens")):
            yield Finding("unclear-error", "tokens", got=str(error), want="an error on the batch axis of the tokens")
        return
    want, entries = pair.cached
    yield from close("logits", logits, want[:1], pair.allowed("logits", PATHS))
    if missing := sorted(entries.keys() ^ cache.keys()):
        yield Finding("other-keys", "tokens", got=", ".join(missing[:3]), want="the keys of a batch")
    for name in entries.keys() & cache.keys():
        yield from _row(pair, name, cache[name], entries[name], slice(1))


@requirement("cache/batch-dim", level=MUST, needs=("cache/complete",))
def batch_dim(pair: Pair) -> Iterator[Finding]:
    """`remove_batch_dim` MUST drop the leading axis, and no other, of a batch of one, and refuse a larger batch.

    Squeezing every axis of one loses the position of a one-token prompt; taking the first row of many loses the rest.
    """
    from ...pair import SubjectRaised

    _, cache = pair.cache(pair.batched(1), remove_batch_dim=True)
    for name in pair.cached[1].keys() & cache.keys():
        yield from _row(pair, name, cache[name], pair.cached[1][name], 0)
    try:
        pair.cache(remove_batch_dim=True)
    except SubjectRaised as error:
        if "batch" not in str(error):
            yield Finding("unclear-error", "remove_batch_dim", got=str(error), want="an error on the batch size")
        return
    rows = len(pair.plain)
    yield Finding("accepted", "remove_batch_dim", got=f"a cache of a batch of {rows}", want="an error: it has no axis")


@requirement("cache/pos-slice", level=MUST, needs=("cache/complete",))
def pos_slice(pair: Pair) -> Iterator[Finding]:
    """`pos_slice` MUST keep those positions of every entry that has positions, and leave every other entry whole.

    An int keeps its axis, with one position. The option was dropped once, and later cut other axes than positions
    (TransformerLens PR #1682): a conditioning vector without its channels is a wrong number, not an error.
    """
    from ...compare import exact, shape_of

    last, (start, stop) = runs.at_the_last_position(pair), runs.span(pair)
    one = pair.cache(pos_slice=runs.LAST)[1] if isinstance(last, str) else last.entries
    asked = {
        f"pos_slice={runs.LAST}": (one, slice(runs.LAST, None)),
        f"pos_slice={(start, stop)}": (runs.sliced(pair).entries, slice(start, stop)),
    }
    for case, (cache, kept) in asked.items():
        for name, whole in pair.cached[1].items():
            if name not in cache:
                continue
            axis = _position_axis(pair, name, whole)
            if axis is not None:
                yield from exact(name, cache[name], whole[(*[slice(None)] * axis, kept)], case=case)
            elif cache[name].shape != whole.shape:
                yield Finding("sliced", name, got=shape_of(cache[name]), want=f"{shape_of(whole)}, whole", case=case)


@requirement("cache/device", level=MUST, needs=("cache/complete",))
def device(pair: Pair) -> Iterator[Finding]:
    """`device` MUST move every entry there, and MUST NOT move the logits, the model or what its config says.

    It moved the model for good, once (TransformerLens PR #1345). "meta" is a second device on every machine.
    """
    from ...compare import exact

    offload = runs.offloaded(pair)
    stayed = [name for name, value in offload.run.entries.items() if not value.is_meta]
    if stayed:
        yield Finding("not-moved", stayed[0], got=f"{len(stayed)} entries that stayed", want="every entry on meta")
    yield from exact("logits", offload.run.returned, pair.cached[0])
    for place, want in offload.before.items():
        if (got := offload.after.get(place)) != want:
            yield Finding("moved", place, got=str(got), want=want)


@requirement("cache/plain-dict", level=MUST, needs=("cache/complete",))
def plain_dict(pair: Pair) -> Iterator[Finding]:
    """`return_cache_object=False` MUST give a plain dict.

    It is asked for to be saved, sent or merged; an ActivationCache drags the whole model along.
    """
    kind = type(runs.offloaded(pair).run.cache)
    if kind is not dict:
        yield Finding("not-a-dict", "return_cache_object", got=f"{kind.__module__}.{kind.__name__}", want="dict")


@requirement("cache/stop-at-layer", level=MUST, needs=("hooks/fires", "cache/complete"))
def stop_at_layer(pair: Pair) -> Iterator[Finding]:
    """`stop_at_layer=k` MUST return the residual stream that enters layer k, and nothing behind it may fire.

    Layer 0 counts, negative layers count from the end, and the number of layers is a full run with its logits.
    Models without the expected list of blocks once ran to the end all the same (TransformerLens PR #1100).
    """
    from ...compare import exact

    for stop in (runs.from_the_start(pair), runs.before_the_last(pair), runs.to_the_end(pair)):
        place = f"stop_at_layer={stop.layer}"
        yield from exact(place, stop.run.returned, stop.want)
        late = [name for name in dict.fromkeys(stop.run.fired) if _behind(pair, stop, name)]
        # The hook at which a run stops may fire, or not any more.
        lost = [name for name in dict.fromkeys(stop.before[:-1]) if name not in stop.run.fired]
        if late:
            yield Finding("ran-on", place, got=f"{len(late)} hooks behind it fired, first {late[0]}", want="none")
        if lost:
            yield Finding("not-fired", place, got=f"{len(lost)} hooks did not fire, first {lost[0]}", want="all")


@requirement("cache/incl-bwd", level=MUST, needs=("cache/complete",))
def incl_bwd(pair: Pair) -> Iterator[Finding]:
    """`incl_bwd=True` MUST keep gradients as `<name>_grad`, or raise an error that names it and asks for a scalar.

    A diffusion model returns no scalar to go back from. The option once fell through into the model, and no one
    heard of it (TransformerLens issue #1680).
    """
    from ...pair import SubjectRaised

    bridge = pair.boot.bridge
    try:
        _, cache = pair.guarded(bridge.run_with_cache, grad=True, incl_bwd=True)
    except SubjectRaised as error:
        if "incl_bwd" not in str(error) or "scalar" not in str(error):
            want = "an error that names incl_bwd and asks for a scalar"
            yield Finding("unclear-error", "incl_bwd", got=str(error), want=want)
        return
    bridge.original_model.zero_grad(set_to_none=True)
    streams = [pair.entering(layer) for layer in range(pair.boot.layers)]
    lost = [f"{name}_grad" for name in streams if f"{name}_grad" not in cache]
    if lost:
        yield Finding("ignored", "incl_bwd", got=f"no {lost[0]}, nor an error", want="gradients, or an error")


def _same(pair: Pair, given: str, got: Any, want: Any) -> Iterator[Finding]:
    """A finding unless two results of one call are alike: tensors within rounding, tuples part by part."""
    from torch import Tensor

    from ...compare import close

    if isinstance(got, Tensor) and isinstance(want, Tensor):
        yield from close("logits", got, want, pair.allowed("logits"), case=given)
    elif isinstance(got, tuple) and isinstance(want, tuple) and len(got) == len(want):
        for one, other in zip(got, want, strict=True):
            yield from _same(pair, given, one, other)
    elif type(got) is not type(want) or (isinstance(got, str) and got != want):
        yield Finding("differs", given, got=_kind(got), want=f"{_kind(want)}, as the forward itself")


def _kind(value: Any) -> str:
    """What a call came to, in one word, or the error it raised."""
    return value if isinstance(value, str) else type(value).__name__


def _row(pair: Pair, name: str, got: Tensor, batch: Tensor, index: int | slice) -> Iterator[Finding]:
    """A finding unless `got` is a row of the batch's entry, or the entry itself where that has no batch axis."""
    from ...compare import PATHS, close, shape_of

    whole = batch.ndim == 0 or batch.shape[0] not in (1, len(pair.plain))
    want = batch if whole else batch[index]
    hook = pair.canonical(name)
    if pair.want(hook) is not None:
        # Another batch size is another order of sums.
        yield from close(name, got, want, pair.allowed(hook, PATHS))
    elif got.shape != want.shape:
        # Without a witness there is no telling how far rounding goes.
        yield Finding("shape-mismatch", name, got=shape_of(got), want=shape_of(want))


def _position_axis(pair: Pair, name: str, entry: Tensor) -> int | None:
    """The first axis that grows with the stream; where shapes cannot tell, the first that is as long as it."""
    from ... import shapes

    hook = pair.canonical(name)
    words = shapes.words(shapes.views(pair, hook)) if hook in pair.observed.taps else (shapes.UNKNOWN,)
    if shapes.UNKNOWN not in words:
        return shapes.position_axis(words, pair.boot.spec)
    # Of a hook that fires once per part of the stream, an entry may hold one part.
    lengths = (pair.length, pair.length // pair.declared_calls(hook))
    return next((axis for axis, size in enumerate(entry.shape) if size in lengths), None)


def _behind(pair: Pair, stop: runs.Stop, name: str) -> bool:
    """Whether a hook comes after the stop: by the order of firing; where it fires for a cache alone, by its layer."""
    if name in pair.observed.taps:
        return name not in stop.before
    layers, (_, place, *_) = pair.boot.layers, (*name.split("."), "", "")
    end = layers if stop.layer == layers else stop.layer % layers
    return not place.isdigit() or int(place) >= end
