"""Tracing: an observer that holds a sampler to what it announces, edits its forwards, and fills a trace."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from .denoising import Kind, Outcome, Step
from .selection import Hooks, Positions, columns_of, hooks_of, kinds_of, position_axis, stream_of
from .trace import END, ENTRY, Entry, Facts, Key, Trace, label, tap_key, write


class Misreported(RuntimeError):
    """A sampler does other than it announces."""


class Stopped(BaseException):
    """Ends a run from within; no error, so that no sampler catches it as one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a trace keeps: see `trace_denoising`."""

    hooks: Hooks
    steps: Callable[[Step], bool]
    positions: Positions
    kinds: Collection[Kind]
    logits: bool
    aliases: dict[str, str]


@dataclass(slots=True)
class Edit:
    """One edit: at which hooks, in forwards of which kinds, what it does, and whether it ever did."""

    hooks: Hooks
    kinds: Collection[Kind]
    change: Callable[[Tensor, Any, Step], Tensor | None]
    applied: bool = False

    @classmethod
    def of(cls, bridge: Any, given: Any, number: int) -> Edit:
        """From what a user gives."""
        argument = f"edits[{number}]"
        if not isinstance(given, tuple) or len(given) not in (2, 3) or not callable(given[1]):
            raise TypeError(f"{argument} is {given!r}, wanted (name, function) or (name, function, kinds)")
        names, change, *kinds = given
        return cls(hooks_of(bridge, names, argument), kinds_of(kinds[0] if kinds else None, argument), change)

    def at(self, tensor: Tensor, hook: Any, step: Step) -> Tensor | None:
        """The tensor to go on with, None for the one shown."""
        self.applied = True
        result = self.change(tensor, hook, step)
        if result is None:
            return None
        if not isinstance(result, Tensor):
            raise TypeError(f"the edit at {hook.name} returned {type(result).__name__}, wanted a tensor or None")
        if result.shape != tensor.shape:
            got, want = tuple(result.shape), tuple(tensor.shape)
            raise ValueError(f"the edit at {hook.name} returned shape {got}, wanted {want}")
        return result


@dataclass(slots=True)
class Showing:
    """A step under way: what has been seen of it so far."""

    step: Step
    keeps: bool
    columns: list[int] = field(default_factory=list)
    ran: bool = False
    tensors: dict[str, Tensor] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)


class Watcher:
    """The observer: the sampler calls `before` and `after`, and between them the bridge's hooks tell the rest."""

    def __init__(
        self,
        bridge: Any,
        wanted: Wanted,
        edits: Sequence[Edit],
        stop: Callable[[Step], bool],
        to: torch.device | Path | None,
    ) -> None:
        self.bridge, self.wanted, self.edits, self.stop = bridge, wanted, edits, stop
        self.folder = to if isinstance(to, Path) else None
        self.device = to if isinstance(to, torch.device) else None
        self.trace = Trace()
        self.last: Tensor | None = None
        self.announced: dict[Key, None] = {}
        self.now: Showing | None = None
        self.fault: Misreported | None = None
        self.fired: set[str] = set()
        self.strange: dict[str, str] = {}
        self.complaints: list[str] = []

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """For a while every forward of the bridge is seen, edited and kept; afterwards no hook is left."""
        model = getattr(self.bridge, "original_model", self.bridge)
        assert isinstance(model, nn.Module)
        edits = [hook for edit in self.edits for hook in edit.hooks.with_each(self._editing(edit))]
        taps = self.wanted.hooks.with_each(self._tap)
        handle = model.register_forward_pre_hook(lambda module, args: self._entered())
        try:
            # Edits first, so that taps show what the model goes on with.
            with self.bridge.hooks(fwd_hooks=[*edits, *taps]):
                yield
        finally:
            handle.remove()

    def before(self, step: Step) -> None:
        """A step is announced."""
        key = _key(step)
        if self.trace.stopped is not None:
            self._fail(f"goes on with {label(key)} after its observer has ended the run")
        if self.now is not None:
            self._fail(f"announces {label(key)} before {label(_key(self.now.step))} has happened")
        if key in self.announced:
            self._fail(f"announces {label(key)} twice: block, step and kind tell steps apart")
        if step.index != len(self.announced):
            self._fail(f"announces {label(key)} with index {step.index}, and {len(self.announced)} steps were before")
        if self.stop(step):
            self.trace.stopped, self.trace.canvas = step, self._copied(step.canvas)
            raise Stopped
        self.announced[key] = None
        self.now = Showing(step, keeps=step.kind in self.wanted.kinds and self.wanted.steps(step))
        if self.now.keeps:
            self.now.columns = columns_of(self.wanted.positions, step)
            self._keep(self.now, t=step.t, canvas_before=step.canvas, masked=step.masked)

    def after(self, step: Step, outcome: Outcome) -> None:
        """The step has happened."""
        now, key = self.now, _key(step)
        if now is None or key != _key(now.step):
            self._fail(f"reports {label(key)}, which is not under way")
        if now.step.runs and not now.ran:
            self._fail(f"announces a forward at {label(key)}, and runs none")
        if now.keeps:
            self._keep(now, canvas_after=outcome.canvas, committed=outcome.committed)
            shifted = self._keep_logits(now, outcome) if self.wanted.logits else False
            self._close(now, shifted)
        self.last, self.now = outcome.canvas, None

    def finish(self, result: Any) -> Trace:
        """The run is over: hold it to what was announced last, and tell what was asked for and never seen."""
        if self.fault is not None:
            raise self.fault
        if self.now is not None:
            self._fail(f"announces {label(_key(self.now.step))}, and ends without a report of it")
        # A sampler that was given a text may return one.
        end = result if isinstance(result, Tensor) else self.last
        if self.trace.stopped is None and end is not None:
            self.trace.result, self.trace.canvas = result, self._copied(end)
        if self.folder is not None and self.trace.canvas is not None:
            write(self.folder / END, {"canvas": self.trace.canvas})
        for complaint in (*self.complaints, *self._unseen()):
            warnings.warn(f"trace_denoising: {complaint}", stacklevel=3)
        return self.trace

    def _unseen(self) -> Iterator[str]:
        if self.announced and not self.trace:
            yield f"none of the run's {len(self.announced)} steps was of the wanted steps and kinds"
        elif silent := [name for name in self.wanted.hooks.names if name not in {*self.fired, *self.strange}]:
            yield f"never fired in the steps kept: {', '.join(silent)}"
        for name, kind in self.strange.items():
            yield f"{name} shows a {kind}, of which only tensors are kept"
        for number, edit in enumerate(self.edits):
            if not edit.applied:
                yield f"edits[{number}] at {', '.join(edit.hooks.names)} was never applied"

    def _fail(self, what: str) -> NoReturn:
        # Kept as well as raised: a sampler may catch what its forwards raise.
        self.fault = self.fault or Misreported(f"the sampler {what}")
        raise self.fault

    def _entered(self) -> None:
        """The model's forward begins."""
        now = self.now
        if now is None:
            last = f", after {label(list(self.announced)[-1])}" if self.announced else ""
            self._fail(f"runs a forward that it has not announced{last}")
        if not now.step.runs:
            self._fail(f"announces {label(_key(now.step))} as a step without a forward, and runs one")
        if now.ran:
            self._fail(f"announces one forward at {label(_key(now.step))}, and runs another")
        now.ran = True

    def _editing(self, edit: Edit) -> Callable[..., Tensor | None]:
        def change(tensor: Tensor, hook: Any) -> Tensor | None:
            now = self.now
            return edit.at(tensor, hook, now.step) if now is not None and now.step.kind in edit.kinds else None

        return change

    def _tap(self, tensor: Any, hook: Any) -> None:
        now = self.now
        if now is None or not now.keeps:
            return
        if not isinstance(tensor, Tensor):
            self.strange[hook.name] = type(tensor).__name__
            return
        axis = position_axis(self.bridge, hook, tensor, now.step)
        if axis is None and hook.name not in now.whole:
            now.whole.append(hook.name)
        self.fired.add(hook.name)
        call = now.calls.get(hook.name, 0)
        now.calls[hook.name] = call + 1
        now.tensors[tap_key(hook.name, call)] = self._copied(tensor, axis)

    def _copied(self, tensor: Tensor, axis: int | None = None) -> Tensor:
        """A copy with memory of its own, on its way to disk on CPU; only the wanted columns, if an axis has them."""
        device, kept = torch.device("cpu") if self.folder is not None else self.device, tensor.detach()
        cut = axis is not None and self.wanted.positions is not None
        if cut and axis is not None and self.now is not None:
            stream = stream_of(self.now.step)
            rows = torch.tensor([stream.index(column) for column in self.now.columns], dtype=torch.long)
            kept = kept.index_select(axis, rows.to(tensor.device))
        return kept.to(device, copy=not cut, memory_format=torch.contiguous_format)

    def _keep(self, now: Showing, axis: int | None = None, **tensors: Tensor | None) -> None:
        now.tensors.update({n: self._copied(tensor, axis) for n, tensor in tensors.items() if tensor is not None})

    def _keep_logits(self, now: Showing, outcome: Outcome) -> bool:
        """Keep all that there are; whether aligned ones are others than those of the model."""
        logits, aligned = outcome.logits, outcome.aligned
        shifted = aligned is not None and (logits is None or not aligned.is_set_to(logits))
        for name, rows in {"logits": logits, "aligned": aligned if shifted else None}.items():
            if rows is not None:
                self._keep(now, 1 if rows.shape[1] == len(stream_of(now.step)) else None, **{name: rows})
        self._keep(now, log_probs=outcome.log_probs)
        return shifted

    def _close(self, now: Showing, shifted: bool) -> None:
        """Make the entry, in memory or on disk."""
        step, wanted = now.step, self.wanted
        stream = stream_of(step)
        facts = Facts(
            index=step.index,
            block=step.block,
            step=step.step,
            kind=Kind(step.kind),
            runs=step.runs,
            window=(stream.start, stream.stop),
            columns=tuple(now.columns),
            whole=tuple(now.whole),
            calls=now.calls,
            aliases={alias: name for alias, name in wanted.aliases.items() if name in now.calls},
            logits=wanted.logits,
            shifted=shifted,
        )
        name = f"{step.index:06d}.{step.block}.{step.step}.{step.kind}{ENTRY}"
        tensors = now.tensors if self.folder is None else write(self.folder / name, now.tensors, facts)
        self.trace.add(Entry(facts, tensors, step.state))


def _key(step: Step) -> Key:
    return step.block, step.step, Kind(step.kind)
