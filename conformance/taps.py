"""Recordings: every tensor that one forward shows, at hooks, at remote modules, or in the oracle's equations."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from . import memory
from .compare import distance
from .spec import places

Edit = Callable[[Tensor, Any], Tensor | None]


@dataclass(slots=True)
class Recording:
    """One forward: for every name the tensors seen, call after call, and the order of all firings.

    `keep` makes the copy of a tensor that is kept: `torch.clone`, `narrowed` or `shape_only`. Recordings of a long
    stream are as large as the memory, so no copy is made of what `like` holds bit for bit, and of what `against` holds
    only the shape is kept, and in `apart` how far both lie from each other.
    """

    taps: dict[str, list[Tensor]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    strange: dict[str, str] = field(default_factory=dict)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    keep: Callable[[Tensor], Tensor] = torch.clone
    like: Recording | None = None
    against: Recording | None = None
    apart: dict[str, float] = field(default_factory=dict)
    last: tuple[Tensor, int, Tensor] | None = None

    def add(self, name: str, value: object) -> None:
        """Keep a copy of what was seen, as it was then; anything but a tensor is noted by its type."""
        if isinstance(value, Tensor):
            self.taps.setdefault(name, []).append(self._kept(name, value.detach()))
            self.order.append(name)
        else:
            self.strange[name] = type(value).__name__

    def _kept(self, name: str, tensor: Tensor) -> Tensor:
        call = len(self.taps.get(name, ()))
        if self.against is not None and name in self.against:
            # The other may have the parts of a stream in calls of their own, as this one has, or all in one.
            parts = self.against.taps[name]
            alike = call < len(parts) and parts[call].shape == tensor.shape
            other = headwise(parts[call] if alike else self.against.joined(name), tensor.shape)
            size = distance(narrowed(tensor), other) if tensor.shape == other.shape else math.inf
            self.apart[name] = max(size, self.apart.get(name, 0.0))
            return shape_only(tensor)
        same = self.like.taps.get(name, [])[call : call + 1] if self.like is not None else []
        return same[0] if same and memory.same(tensor, same[0]) else self._copy(tensor)

    def _copy(self, tensor: Tensor) -> Tensor:
        """A copy, or the one just made of this very tensor: one layer's end is the next one's start."""
        if self.last is not None:
            shown, version, copy = self.last
            if shown.is_set_to(tensor) and shown._version == version:
                return copy
        self.last = (tensor, tensor._version, self.keep(tensor))
        return self.last[2]

    def drop(self, names: Iterable[str]) -> None:
        """Forget some tensors."""
        for name in names:
            self.taps.pop(name, None)

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name; `logits` is one."""
        return name in self.taps or (name == "logits" and self.logits.numel() > 0)

    def joined(self, name: str) -> Tensor:
        """All calls of one tap as one tensor, joined on the position axis in call order.

        Calls of different shapes are not parts of one stream; the last one then stands for all.
        """
        if name == "logits":
            return self.logits
        calls = self.taps[name]
        across = {(*call.shape[:1], *call.shape[2:]) for call in calls}
        return torch.cat(calls, dim=1) if len(calls) > 1 == len(across) and calls[0].ndim > 1 else calls[-1]


def canonical_names(bridge: Any) -> list[str]:
    """Names of the distinct hook points of a bridge, aliases left out, in registry order."""
    return [name for name, point in bridge.hook_dict.items() if point.name == name]


def attach_refusal(bridge: Any, name: str) -> Exception | None:
    """The error with which a bridge refuses a hook at `name`, or None when it attaches."""
    try:
        with bridge.hooks(fwd_hooks=[(name, lambda tensor, hook: None)]):
            return None
    except Exception as error:
        return error


def run_hooked(call: Callable[[], Tensor], bridge: Any, names: Iterable[str], *hooks: Edit) -> Tensor:
    """One forward with `hook(tensor, hook=point)` at every hook point in `names`, for one hook after the other."""
    wanted = set(names)
    with torch.no_grad(), bridge.hooks(fwd_hooks=[(wanted.__contains__, hook) for hook in hooks]):
        return call()


def logits_of(output: Any) -> Tensor:
    """What a remote model answers: its logits, or an object that holds them."""
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


def headwise(tensor: Tensor, shape: torch.Size) -> Tensor:
    """A tensor with its channels by head, if that is all in which `shape` differs: a module has them in one axis."""
    apart = len(shape) == tensor.ndim + 1 and shape[:-2] == tensor.shape[:-1] and shape.numel() == tensor.numel()
    return tensor.reshape(shape) if apart else tensor


def narrowed(tensor: Tensor) -> Tensor:
    """A copy with fp64 in fp32: half the memory, for half a unit in the last place."""
    return tensor.float() if tensor.dtype is torch.float64 else tensor.clone()


def shape_only(tensor: Tensor) -> Tensor:
    """Shape and dtype, on the meta device."""
    return tensor.to("meta")


def record_bridge(
    call: Callable[[], Tensor],
    bridge: Any,
    names: Iterable[str],
    keep: Callable[[Tensor], Tensor] = torch.clone,
    like: Recording | None = None,
) -> Recording:
    """Record every firing of the hook points in `names` during one forward of a bridge."""
    recording = Recording(keep=keep, like=like)

    def observe(tensor: Tensor, hook: Any) -> None:
        recording.add(hook.name, tensor)

    recording.logits = run_hooked(call, bridge, names, observe)
    recording.last = recording.like = None
    return recording


def through_modules(
    call: Callable[[], Tensor], model: nn.Module, points: Mapping[str, str], layers: int, tap: Callable[[str, Any], Any]
) -> Tensor:
    """One forward of a remote model with a tap at input and output of every module that is paired with a point.

    `tap(hook_name, value)` is called as an oracle's tap is; what it returns is used instead. A value that is no
    tensor, such as a module's tuple, is shown too.
    """
    with contextlib.ExitStack() as handles:
        for name, path in paired(points, layers, model):
            module = model.get_submodule(path)

            def entering(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name) -> Any:
                if args:
                    return (tap(f"{name}.hook_in", args[0]), *args[1:]), kwargs
                first = next(iter(kwargs))
                return args, {**kwargs, first: tap(f"{name}.hook_in", kwargs[first])}

            def leaving(_: nn.Module, __: tuple[Any, ...], output: Any, name: str = name) -> Any:
                return tap(f"{name}.hook_out", output)

            handles.callback(module.register_forward_pre_hook(entering, with_kwargs=True).remove)
            handles.callback(module.register_forward_hook(leaving).remove)
        return call()


def record_modules(
    call: Callable[[], Tensor],
    model: nn.Module,
    points: Mapping[str, str],
    layers: int,
    against: Recording | None = None,
) -> Recording:
    """Record input and output of every remote module that is paired with a point, under the point's hook names."""
    recording = Recording(against=against)

    def tap(name: str, value: Any) -> Any:
        recording.add(name, value)
        return value

    with torch.no_grad():
        recording.logits = through_modules(call, model, points, layers, tap)
    return recording


def record_oracle(
    forward: Callable[..., Tensor],
    params: Mapping[str, Tensor],
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    dtype: torch.dtype,
    names: Container[str] | None = None,
    against: Recording | None = None,
) -> Recording:
    """Record the taps of an oracle in `names`, by default all, computed in `dtype` and kept in fp32."""
    recording = Recording(keep=narrowed, against=against)

    def tap(name: str, tensor: Tensor) -> Tensor:
        if names is None or name in names:
            recording.add(name, tensor)
        return tensor

    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in params.items()}
    with torch.no_grad():
        recording.logits = forward(cast, config, inputs, tap).float()
    return recording


def paired(points: Mapping[str, str], layers: int, model: nn.Module) -> Iterator[tuple[str, str]]:
    """Concrete pairs of bridge component and remote module path, layer by layer.

    A path that ends in "?" is of a module that only some layers have; the others have no such point. ValueError where
    no layer has it, or one lacks it whose path says nothing of that.
    """
    for name, path in points.items():
        everywhere = list(zip(places(name, layers), places(path.rstrip("?"), layers), strict=True))
        there = [pair for pair in everywhere if _has(model, pair[1])]
        if not there:
            raise ValueError(f"point {name!r}: no module of the model is {path!r}; correct the path, or leave it out")
        if len(there) < len(everywhere) and not path.endswith("?"):
            raise ValueError(f"point {name!r}: only some layers have {path!r}; write {path + '?'!r}")
        yield from there


def _has(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True
