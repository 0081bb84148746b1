"""Backward: the gradient of one objective at every tap and parameter, of bridge, oracle and reference alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import components, taps
from .objective import objective
from .pair import SubjectRaised, blamed_on_subject
from .parameters import Told, compared
from .taps import Recording
from .witnesses import Witnesses

if TYPE_CHECKING:
    from .pair import Pair

Edit = Callable[[str, Tensor], Tensor]
"""What a backward hook returns for the gradient that it is shown at a tap."""


@dataclass
class Backward:
    """Backward passes of one layout, each run once, recorded as forwards are."""

    pair: Pair

    @property
    def observed(self) -> Recording:
        """The subject with a backward hook at every tap that only looks."""
        return self.told.observed

    @cached_property
    def witnesses(self) -> Witnesses:
        """What the gradients should be, at taps and by parameters."""
        return Witnesses(Recording, lambda dtype, _: self.of_model(dtype))

    @cached_property
    def told(self) -> Told:
        """What the passes said, heard once."""
        return compared(self)

    def differs(self, name: str) -> bool:
        """Whether the gradient at a hook is not that of the tensor that its name, canonical or alias, stands for."""
        return self.witnesses.contradict(name, self.observed, self.pair.canonical(name))

    def of_bridge(
        self,
        names: Collection[str],
        edit: Edit | None = None,
        *,
        shallow: bool = False,
        keep: Callable[[Tensor], Tensor] = torch.clone,
    ) -> Recording:
        """One backward pass of the subject, while backward hooks at `names` return what `edit` makes of a gradient.

        The recorded gradient is the one that a hook is shown. A shallow pass goes through every hook and leaves out
        the parameters.
        """
        pair, recording, wanted = self.pair, Recording(), set(names)
        bridge = pair.boot.bridge

        def seen(gradient: Tensor, hook: Any) -> Tensor | None:
            # Of several firings the last one is the first to be reached on the way back.
            recording.taps.setdefault(hook.name, []).insert(0, keep(gradient.detach()))
            recording.order.append(hook.name)
            return None if edit is None else edit(hook.name, gradient)

        with blamed_on_subject(), bridge.hooks(bwd_hooks=[(wanted.__contains__, seen)] if names else []):
            logits = pair.guarded(bridge, grad=True)
            if not isinstance(logits, Tensor) or not logits.requires_grad:
                raise SubjectRaised("the logits need no gradient: nothing can be differentiated")
            self._differentiate("subject", logits, recording, components.parameters(bridge.original_model), shallow)
        return recording

    def loss(self, names: Collection[str]) -> Tensor:
        """The objective of a forward of the subject while backward hooks at `names` look on."""
        bridge, wanted = self.pair.boot.bridge, set(names)
        with blamed_on_subject(), bridge.hooks(bwd_hooks=[(wanted.__contains__, lambda gradient, hook: None)]):
            return objective(self.pair, self.pair.guarded(bridge, grad=True)).detach().float()

    def of_model(self, dtype: torch.dtype, edit: Edit | None = None, *, shallow: bool = False) -> Recording:
        """The equations, differentiated in `dtype` and kept in fp32; without an oracle the reference, in fp32."""
        pair, recording = self.pair, Recording()
        boot = pair.boot
        if boot.oracle is None:
            return self.of_reference(edit)
        boot.forwards["oracle"] += 1
        params = boot.params_in(dtype)
        leaves = {name: v.detach().requires_grad_() for name, v in params.items() if v.is_floating_point()}

        def tap(name: str, tensor: Tensor) -> Tensor:
            # A view has a gradient of its own and takes no memory; equations write nothing in place.
            return _node(recording, name, tensor, edit, _alias) if name in pair.known_names else tensor

        with torch.enable_grad():
            logits = boot.oracle({**params, **leaves}, boot.config, pair.inputs, tap)
            self._accumulate(logits, recording, leaves, shallow)
        return recording

    def of_reference(self, edit: Edit | None = None) -> Recording:
        """The reference's parameters and, without an oracle, its module boundaries."""
        pair, recording = self.pair, Recording()
        reference = pair.boot.reference
        # Where there are equations, they speak of the taps.
        points = pair.boot.spec.points if pair.boot.oracle is None else {}
        pair.boot.forwards["reference"] += 1
        with torch.enable_grad():
            logits = taps.through_modules(
                lambda: taps.logits_of(reference(**pair.inputs)),
                reference,
                points,
                pair.boot.layers,
                lambda name, tensor: _node(recording, name, tensor, edit, torch.clone),
            )
            self._differentiate("reference", logits, recording, components.parameters(reference))
        return recording

    def _accumulate(self, logits: Tensor, recording: Recording, leaves: Mapping[str, Tensor], shallow: bool) -> None:
        """The same for leaves of our own, which let go of a gradient in fp64 as soon as it is there."""
        self.pair.boot.forwards["oracle backward"] += 1

        def keep(name: str, leaf: Tensor) -> None:
            if leaf.grad is not None and not shallow:
                recording.taps[name] = [leaf.grad.float()]
            leaf.grad = None

        wanted = {name: leaf for name, leaf in leaves.items() if not shallow or name in self._shallow}
        for name, leaf in wanted.items():
            leaf.register_post_accumulate_grad_hook(partial(keep, name))
        loss = objective(self.pair, logits)
        recording.logits = loss.detach().float()
        loss.backward(inputs=list(wanted.values()))

    @cached_property
    def _shallow(self) -> set[str]:
        """Parameters whose gradients pass every hook and cost little: the first of the model, all tables, all vectors.

        Nothing else is upstream of a table of positions.
        """
        reference = self.pair.boot.reference
        tables = (path for path, module in reference.named_modules() if isinstance(module, torch.nn.Embedding))
        named = list(reference.named_parameters())
        vectors = {name for number, (name, value) in enumerate(named) if number == 0 or value.ndim < 2}
        return vectors | {f"{path}.weight" for path in tables}

    def _differentiate(
        self, whose: str, logits: Tensor, recording: Recording, parameters: Mapping[str, Tensor], shallow: bool = False
    ) -> None:
        """Add the gradients of the objective by parameters to a recording; what has none is left out."""
        self.pair.boot.forwards[f"{whose} backward"] += 1
        wanted = {name: value for name, value in parameters.items() if value.requires_grad}
        if shallow:
            wanted = {name: value for name, value in wanted.items() if name in self._shallow}
        loss = objective(self.pair, logits)
        # Only passes of the subject are held against each other bit for bit.
        with _deterministic() if whose == "subject" else nullcontext():
            gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        recording.logits = loss.detach().float()
        for name, gradient in zip(wanted, gradients, strict=True):
            if gradient is not None and not shallow:
                recording.taps[name] = [gradient.float()]


@contextmanager
def _deterministic() -> Iterator[None]:
    """Sums over equal tokens in one order: with several threads the gradient of an embedding has none of its own."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filling = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filling


def _node(recording: Recording, name: str, tensor: Any, edit: Edit | None, copy: Callable[[Tensor], Tensor]) -> Any:
    """A tap on the way of the gradient, so that what flows through this tap alone is recorded."""
    if not isinstance(tensor, Tensor) or not tensor.requires_grad:
        return tensor
    if edit is not None:
        # Behind the node on the way back, so that the node's own gradient is what the edit is shown.
        tensor = copy(tensor)
        tensor.register_hook(lambda gradient: edit(name, gradient))
    node = copy(tensor)

    def seen(gradient: Tensor) -> None:
        recording.taps.setdefault(name, []).insert(0, gradient.float())

    node.register_hook(seen)
    return node


def _alias(tensor: Tensor) -> Tensor:
    return tensor.view_as(tensor)
