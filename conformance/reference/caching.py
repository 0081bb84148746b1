"""Caching for TransformerBridge: all that hooks show, in memory of its own, and a word on what could not be kept."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities.slice import Slice, SliceInput

NamesFilter = str | list[str] | Callable[[str], bool] | None
Hooks = list[tuple[str, Callable[..., None]]]


def owned(tensor: Any, device: Any = None) -> Tensor:
    """A copy that is as large as it looks, whatever the tensor is a view of."""
    copy: Tensor = tensor.detach().to(device=device, copy=True)
    return copy


def position_axis(point: HookPoint, tensor: Tensor) -> int | None:
    """The axis of a hook's tensor that is position; None where it has none, as its hook point says: `positionless`."""
    if tensor.ndim < 2 or getattr(point, "positionless", False):
        return None
    declared = getattr(point, "pos_dim", None)
    return (TransformerBridge._pos_slice_dim(point.name or "") if declared is None else declared) % tensor.ndim


def cut(tensor: Tensor, axis: int | None, positions: Slice) -> Tensor:
    """Some positions of a tensor, or the whole of one that has no positions."""
    if axis is None:
        return tensor
    kept: Tensor = positions.apply(tensor, dim=axis)
    return kept


class Recorder:
    """Keeps what hook points show in one forward; where one fires once per part of the stream, all parts in one entry.

    Positions are cut when a tensor comes if it holds the whole stream, else when its last part has come. `names` are
    the keys of every hook's entry; they share one tensor. `cache` is filled by `finish`, and by every later firing.

    Args:
        positions: which to keep.
        device: where; None for where they are.
        stream: the stream's length, None where it is not known.
        with_ids: whether the stream comes from the ids that are shown.
    """

    def __init__(
        self,
        names: Mapping[str, Sequence[str]],
        positions: Slice,
        device: Any,
        stream: int | None = None,
        with_ids: bool = True,
    ) -> None:
        self.names, self.positions, self.device = names, positions, device
        self.stream, self.with_ids = stream, with_ids
        self.cache: dict[str, Tensor] = {}
        self._parts: dict[tuple[str, str], list[Tensor]] = {}
        self._uncut: set[tuple[str, str]] = set()
        self._axes: dict[tuple[str, str], int | None] = {}
        self._finished = False

    def forward(self, tensor: Any, hook: HookPoint) -> None:
        """A hook that keeps the tensor."""
        self._keep(tensor, hook, "")

    def backward(self, tensor: Any, hook: HookPoint) -> None:
        """A backward hook that keeps the gradient."""
        self._keep(tensor, hook, "_grad")

    def _keep(self, shown: Any, hook: HookPoint, suffix: str) -> None:
        if not hasattr(shown, "detach") or not (self.with_ids or shown.is_floating_point()):
            return
        tensor, key = shown.detach(), (str(hook.name), suffix)
        axis = self._axes[key] = position_axis(hook, tensor)
        if axis is not None and tensor.shape[axis] != self.stream:
            self._uncut.add(key)
        else:
            tensor = cut(tensor, axis, self.positions)
        self._parts.setdefault(key, []).append(owned(tensor, self.device))
        if self._finished:
            self.finish()

    def finish(self) -> None:
        """Make an entry of all that has come since the last time."""
        for key, parts in self._parts.items():
            (name, suffix), axis = key, self._axes[key]
            # Gradients come in reverse order.
            entry = _joined(name, parts[::-1] if suffix else parts, axis)
            if key in self._uncut and self.positions.mode != "identity":
                entry = owned(cut(entry, axis, self.positions))
            self.cache.update({spelt + suffix: entry for spelt in self.names[name]})
        self._parts.clear()
        self._uncut.clear()
        self._finished = True


def _joined(name: str, parts: list[Tensor], axis: int | None) -> Tensor:
    """All firings of one hook, joined along its positions."""
    if len(parts) == 1:
        return parts[0]
    across = {(part.ndim, *(n for place, n in enumerate(part.shape) if place != axis)) for part in parts}
    if axis is None or len(across) > 1:
        warnings.warn(f"{name} fired {len(parts)} times with what cannot be joined; the last is kept", stacklevel=2)
        return parts[-1]
    return torch.cat(parts, dim=axis)


class CachingBridge(TransformerBridge):
    """A bridge whose caches own what they hold, hold all of it, and whose runs say which hooks they left out."""

    cache_class: type[ActivationCache] = ActivationCache

    def get_caching_hooks(
        self,
        names_filter: NamesFilter = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Tensor] | None = None,
        pos_slice: Slice | SliceInput | None = None,
    ) -> tuple[dict[str, Tensor], Hooks, Hooks]:
        """Build caching hooks without adding them.

        Mends three defects: entries were views of what a hook was shown, so that edits in place reached them, two hooks
        shared one tensor and a slice kept the whole alive; `pos_slice` cut the channels of tensors without positions;
        and a name that is no hook was dropped where another one of the list is.
        """
        self._asked(names_filter)
        found, *both = super().get_caching_hooks(names_filter, incl_bwd, device, remove_batch_dim, cache)
        positions = Slice.unwrap(pos_slice)

        def owning(store: Callable[..., None]) -> Callable[..., None]:
            def keep(tensor: Any, hook: HookPoint) -> None:
                tensor = tensor.detach()
                store(owned(cut(tensor, position_axis(hook, tensor), positions), device), hook=hook)

            return keep

        forward, backward = ([(name, owning(store)) for name, store in hooks] for hooks in both)
        return found, forward, backward

    def run_with_cache(
        self,
        input: Any,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        names_filter: NamesFilter = None,
        stop_at_layer: int | None = None,
        start_at_layer: int | None = None,
        pos_slice: Slice | SliceInput | None = None,
        incl_bwd: bool = False,
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        device: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """Run the model and cache activations; arguments as upstream's.

        Mends, besides those of `get_caching_hooks`: of a hook that fires several times only the last firing was kept; a
        layer that does not exist ran the model to its end; a name that was asked for and did not fire, in this model or
        before `stop_at_layer`, was left out without a word.
        """
        bounds = self._layer("start_at_layer", start_at_layer), self._layer("stop_at_layer", stop_at_layer)
        names = self._spellings(names_filter, *bounds)
        stream = input.shape[-1] if isinstance(input, Tensor) and not input.is_floating_point() else None
        recorder = Recorder(names, Slice.unwrap(pos_slice), device, stream, start_at_layer is None)
        forward = [(name, recorder.forward) for name in names]
        backward = [(name, recorder.backward) for name in names if incl_bwd]
        with self.hooks(forward, backward, reset_hooks_end, clear_contexts):
            output, _ = super().run_with_cache(
                input,
                return_cache_object=False,
                names_filter=lambda name: False,
                stop_at_layer=stop_at_layer,
                start_at_layer=start_at_layer,
                incl_bwd=incl_bwd,
                **kwargs,
            )
        recorder.finish()
        self._tell(names_filter, recorder.cache, bounds)
        cache = self.cache_class(recorder.cache, self)
        if remove_batch_dim:
            one = isinstance(input, str) or (isinstance(input, Tensor) and input.ndim == 1)
            cache.remove_batch_dim(batch_size=1 if one else len(input))
        return output, cache if return_cache_object else cache.cache_dict

    def run_with_hooks(
        self,
        input: Any,
        fwd_hooks: Iterable[tuple[str | Callable[[str], bool], Callable[..., Any]]] = (),
        bwd_hooks: Iterable[tuple[str | Callable[[str], bool], Callable[..., Any]]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        return_type: str | None = "logits",
        stop_at_layer: int | None = None,
        start_at_layer: int | None = None,
        remove_batch_dim: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Run the model with hooks; arguments as upstream's.

        Mends: a hook that does not fire in this run, such as one behind `stop_at_layer`, was left out without a word,
        and so were backward hooks, which are taken down before anyone can go backward; a layer too far from the end
        stood for another one.
        """
        stop_at_layer = self._layer("stop_at_layer", stop_at_layer)
        start_at_layer = self._layer("start_at_layer", start_at_layer)
        fwd_hooks, bwd_hooks, fired = list(fwd_hooks), list(bwd_hooks), set()
        if bwd_hooks and reset_hooks_end:
            told = (
                "run_with_hooks takes its bwd_hooks down before anything goes backward; go backward inside hooks(...)"
            )
            warnings.warn(f"{told}, or set reset_hooks_end=False", stacklevel=2)
        names = dict.fromkeys(name for name, _ in fwd_hooks if isinstance(name, str))
        heard = [(name, lambda tensor, hook, name=name: fired.add(name)) for name in names]
        with self.hooks(heard):
            output = super().run_with_hooks(
                input,
                fwd_hooks,
                bwd_hooks,
                reset_hooks_end,
                clear_contexts,
                return_type,
                stop_at_layer,
                start_at_layer,
                remove_batch_dim,
                **kwargs,
            )
        if silent := [name for name in names if name not in fired]:
            warnings.warn(f"run_with_hooks: {', '.join(silent)} did not fire in this run", stacklevel=2)
        return output

    def _asked(self, names_filter: NamesFilter) -> list[str]:
        """The names that a filter spells out; a KeyError for the first that is no hook."""
        if names_filter is None or callable(names_filter):
            return []
        asked, known = [names_filter] if isinstance(names_filter, str) else list(names_filter), self.hook_dict
        for name in asked:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                meant = f"did you mean {', '.join(near)}?" if near else "see bridge.hook_dict for what there is"
                raise KeyError(f"names_filter: this model has no hook {name!r}; {meant}")
        return asked

    def _spellings(self, names_filter: NamesFilter, start: int | None, stop: int | None) -> dict[str, list[str]]:
        """The hooks that a filter keeps, each with the keys of its entry."""
        asked, hooks = self._asked(names_filter), self.hook_dict
        keys = {*asked, *(hooks[name].name for name in asked)}
        wanted = names_filter if callable(names_filter) else keys.__contains__ if names_filter is not None else bool
        found: dict[str, list[str]] = {}
        for name, point in hooks.items():
            if wanted(name) and self._runs(point.name or name, start, stop):
                found.setdefault(point.name or name, []).append(name)
        gated = [name for name in found if self._gated_hook_reason(name) is not None]
        if names_filter is not None:
            self._warn_gated_skipped("run_with_cache", gated, stacklevel=4)
        if self.compatibility_mode:
            found = {name: [key for key, point in hooks.items() if point.name == name] for name in found}
        return {name: keys for name, keys in found.items() if name not in gated}

    def _runs(self, name: str, start: int | None, stop: int | None) -> bool:
        """Whether a hook lies in what runs from one layer to another."""
        layer = re.match(r"blocks\.(\d+)\.", name)
        if layer is None:
            return start is None or not self._is_embedding_stage_hook(name)
        return (start or 0) <= int(layer[1]) and (stop is None or int(layer[1]) < stop)

    def _layer(self, keyword: str, value: int | None) -> int | None:
        """A layer counted from the start; a clear error for one that the model does not have."""
        if value is None:
            return None
        if not self._has_registered_blocks():
            raise NotImplementedError(f"{keyword} needs a stack of blocks, which this architecture does not register")
        layers = len(self.blocks)
        if not -layers <= value <= layers:
            raise ValueError(f"{keyword}: got {value}, want one of {-layers} to {layers}, as there are {layers} layers")
        return value % layers if value < 0 else value

    def _tell(self, names_filter: NamesFilter, cache: Mapping[str, Tensor], bounds: tuple[int | None, ...]) -> None:
        """Warn of what a filter asked for and the run did not show."""
        missing = [name for name in self._asked(names_filter) if name not in cache]
        if missing or (callable(names_filter) and not cache):
            what = ", ".join(missing) or "anything that names_filter matches"
            where = "" if bounds == (None, None) else " from layer {} to layer {}".format(*bounds)
            warnings.warn(f"run_with_cache: {what} did not fire in this run{where}", stacklevel=3)
