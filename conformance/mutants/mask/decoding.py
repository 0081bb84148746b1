"""Caches of keys and values that keep the wrong rows, in the wrong place, or too long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, having, on_bridge

if TYPE_CHECKING:
    from torch import Tensor

    from ...subject import Boot

Step = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Cache:
    """What opening a cache has put into a model, wherever that is: the tensors `batch row …`, and all counters."""

    model: Any
    tensors: list[Tensor]

    def change(self, change: Callable[[Tensor], Tensor]) -> None:
        """Let every row that is kept be another."""
        for tensor in self.tensors:
            tensor.copy_(change(tensor.clone()))

    def counters(self) -> dict[tuple[Any, str], int]:
        """Whole numbers that the model's modules keep."""
        found = ((module, name, value) for module in self.model.modules() for name, value in vars(module).items())
        return {(module, name): value for module, name, value in found if type(value) is int}


def _while_open(boot: Boot, defect: Callable[[Step, Cache, bool], Any]) -> None:
    """Let `defect(step, cache, commits)` answer for every forward while a cache is open; `step()` runs it."""
    from ...memory import everything

    facts, opened = having(boot.spec.cache, "a cache of keys and values"), dict[Any, Cache]()
    open_, close_, commit = facts.open, facts.close, facts.commit

    def open(model: Any, batch: int) -> None:
        before = {id(tensor) for tensor in everything(model).values()}
        open_(model, batch)
        new = {id(tensor): tensor for tensor in everything(model).values() if id(tensor) not in before}
        opened[model] = Cache(model, list(new.values()))

    def close(model: Any) -> None:
        opened.pop(model)
        close_(model)

    def forward(inner: Callable[..., Any], *args: Any, bridge: Any, **kwargs: Any) -> Any:
        cache = opened.get(bridge.original_model)
        if cache is None:
            return inner(*args, **kwargs)
        return defect(lambda: inner(*args, **kwargs), cache, _among(kwargs, commit))

    def amend(bridge: Any) -> None:
        around(bridge, "forward", lambda inner, *args, **kwargs: forward(inner, *args, bridge=bridge, **kwargs))

    boot.spec = replace(boot.spec, cache=replace(facts, open=open, close=close))
    on_bridge(boot, amend)


def _among(kwargs: Mapping[str, Any], commit: Mapping[str, object]) -> bool:
    return all(kwargs.get(name) == value for name, value in commit.items())


@mutant(kills="mask/kv-cache")
def one_row_off(boot: Boot) -> None:
    """A committed block is kept one row further on, so that its keys are rotated to another position."""

    def defect(step: Step, cache: Cache, commits: bool) -> Any:
        got = step()
        if commits:
            cache.change(lambda kept: kept.roll(1, dims=1))
        return got

    _while_open(boot, defect)


@mutant(kills="mask/kv-cache")
def keeps_an_earlier_canvas(boot: Boot) -> None:
    """The rows that are kept are those of an earlier denoising call, when the block held other tokens."""

    def defect(step: Step, cache: Cache, commits: bool) -> Any:
        before = [tensor.clone() for tensor in cache.tensors]
        got = step()
        if commits:
            for tensor, kept in zip(cache.tensors, before, strict=True):
                tensor.copy_(kept)
        return got

    _while_open(boot, defect)


@mutant(kills="mask/kv-cache")
def advances_too_little(boot: Boot) -> None:
    """A commit advances by one row less than a block, and the next block is written over the last one's end."""

    def defect(step: Step, cache: Cache, commits: bool) -> Any:
        before = cache.counters()
        got = step()
        for (module, name), value in cache.counters().items():
            if value > before.get((module, name), value):
                setattr(module, name, value - 1)
        return got

    _while_open(boot, defect)


@mutant(kills="mask/kv-cache")
def every_call_commits(boot: Boot) -> None:
    """A denoising call keeps its block too, so that a block is preceded by drafts of itself."""
    facts = having(boot.spec.cache, "a cache of keys and values")
    opened: list[Any] = []

    def open(model: Any, batch: int) -> None:
        opened.append(model)
        facts.open(model, batch)

    def close(model: Any) -> None:
        opened.clear()
        facts.close(model)

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return inner(*args, **(kwargs | dict(facts.commit) if opened else kwargs))

    boot.spec = replace(boot.spec, cache=replace(facts, open=open, close=close))
    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="mask/kv-cache")
def never_commits(boot: Boot) -> None:
    """The keyword that keeps a block is dropped on the way to the model, and every block is decoded as the first.

    TransformerLens: models that name their cache otherwise decoded as if there were no prompt.
    """
    facts = having(boot.spec.cache, "a cache of keys and values")

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return inner(*args, **{name: value for name, value in kwargs.items() if name not in facts.commit})

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="mask/kv-cache")
def kept_in_half_precision(boot: Boot) -> None:
    """Keys and values are kept in bfloat16 under a model that computes in fp32, as the released code does."""

    def defect(step: Step, cache: Cache, commits: bool) -> Any:
        got = step()
        cache.change(lambda kept: kept.bfloat16().to(kept.dtype))
        return got

    _while_open(boot, defect)


@mutant(kills="mask/kv-cache")
def commits_by_another_path(boot: Boot) -> None:
    """The call that commits a block computes it another way, and its logits differ in the last bits."""

    def defect(step: Step, cache: Cache, commits: bool) -> Any:
        return step() * (1 + 1e-6) if commits else step()

    _while_open(boot, defect)


@mutant(kills="mask/kv-cache")
def is_never_closed(boot: Boot) -> None:
    """Closing the cache sets attributes of a wrapper, and the model below goes on with what it has kept."""
    facts = having(boot.spec.cache, "a cache of keys and values")
    boot.spec = replace(boot.spec, cache=replace(facts, close=lambda model: None))
