"""Tables: what code builds and no file holds, such as masks and rotary tables. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...pair import Pair


@requirement("loading/buffers", level=MUST)
def buffers(pair: Pair) -> Iterator[Finding]:
    """Every table that no file fills MUST hold, after the same forward, what the model builds, bit for bit, in numbers.

    A loader that builds the model on the meta device leaves in them whatever the memory held. InternLM2 lost its
    positions that way, and both sides of a comparison can lose them together.
    """
    from ... import components, memory

    model: Any = pair.boot.bridge.original_model
    pair.call(), pair.reference_logits()
    # An adapter may hold a parameter under a further name; that is no table.
    saved = {memory.address(tensor) for tensor in model.parameters()}
    for path, ours, theirs in components.natives(model, pair.boot.reference):
        held, wanted = tables(ours), tables(theirs)
        for name in sorted(held.keys() | wanted.keys()):
            at = f"{path}.{name}".lstrip(".")
            if name not in held:
                yield Finding("missing", at, got="no such tensor", want=f"{list(wanted[name].shape)}")
            elif name in wanted:
                yield from _compare(at, held[name], wanted[name])
            elif memory.address(held[name]) not in saved or held[name].is_meta:
                yield Finding("left-over", at, got="a tensor that the model does not have", want="none")


def tables(module: nn.Module) -> dict[str, Tensor]:
    """Tensors of one module that no file holds: unsaved buffers, plain attributes, also in lists and dicts."""
    from torch import Tensor, nn

    found = {name: module._buffers[name] for name in unsaved(module)}
    for name in vars(module).keys() - vars(nn.Module()).keys():
        value = vars(module)[name]
        held = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        inside = held.items() if isinstance(held, Mapping) else ()
        found |= {name: value, **{f"{name}.{key}": entry for key, entry in inside}}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def unsaved(module: nn.Module) -> set[str]:
    """Buffers of one module that a checkpoint does not hold."""
    return set(module._non_persistent_buffers_set)


def _compare(at: str, got: Tensor, want: Tensor) -> Iterator[Finding]:
    """One finding at most: no values, no numbers, or others than the model's."""
    import torch

    from ...compare import exact

    if got.is_meta:
        yield Finding("meta", at, got="a tensor without values", want="the model's")
        return
    if got.is_floating_point():
        # A mask may hold -inf; the model's own then does.
        infinite = got.isinf() & (want != got if got.shape == want.shape else True)
        if (got.isnan() | infinite).any():
            yield Finding("not-finite", at, got="inf or nan", want="the model's numbers")
            return
        if ((got != 0) & (got.abs() < torch.finfo(got.dtype).tiny)).any():
            yield Finding("denormal", at, got="numbers too small to be meant", want="the model's numbers")
            return
    yield from exact(at, got, want)
