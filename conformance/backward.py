"""Backward: the gradient of one objective at every tap and parameter, of bridge, oracle and reference alike."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from . import compare, components, taps
from .finding import Finding
from .pair import SubjectRaised, blamed_on_subject
from .spec import Size
from .taps import Recording
from .witnesses import Witnesses

if TYPE_CHECKING:
    from .pair import Pair

Edit = Callable[[str, Tensor], Tensor]
"""What a backward hook returns for the gradient that it is shown at a tap."""

STEP, SEEDED_STEP = 0.002, 0.02
"""How far a parameter moves for a finite difference, in its own root mean square: along its gradient, or without one.

Along the gradient the objective bends soonest; a seeded way moves it less, and there is no derivative to be near.
"""


TRIED = 2
"""Parameters of a layout that are tried by finite differences."""


@dataclass(frozen=True, slots=True)
class Told:
    """What backward passes said: the gradients at hooks, and the findings against those of parameters.

    `parameters` are findings against model and equations, `returned` against hooks that return what they are given;
    `kept` are the gradients of the few parameters that finite differences try, `loss` is the objective.
    """

    observed: Recording
    parameters: list[Finding]
    returned: list[Finding]
    kept: dict[str, Tensor | None]
    loss: Tensor


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
        return Witnesses(Recording, self.of_model)

    @cached_property
    def told(self) -> Told:
        """Three passes of the subject and one of the reference, compared.

        The gradients of all parameters are as large as the model; each pass lets go of them once it is compared.
        """
        # Bridges that were booted on the way hang in cycles, each as large as the model.
        gc.collect()
        names, exact = sorted(self.pair.boot.params), self.witnesses.exact
        plain = self.of_bridge([])
        parameters = [*self._unlike(plain, self._of_reference(), "by the reference")]
        parameters += self._unlike(plain, exact, "by the equations")
        tried = self._tried(exact)
        kept = {name: plain.joined(name) if name in plain else None for name in tried}
        loss = plain.logits
        del plain

        observed = self.of_bridge(self.pair.names)
        parameters += self._unlike(observed, exact, "by the equations, with hooks attached")
        touched = self.of_bridge(self.pair.names, lambda name, gradient: gradient, keep=taps.shape_only)
        returned = [f for name in names for f in _unequal(name, touched, observed)]
        for recording in (observed, exact):
            recording.drop(names)
        return Told(observed, parameters, returned, kept, loss)

    def _unlike(self, got: Recording, want: Recording, case: str) -> Iterator[Finding]:
        for name in sorted(self.pair.boot.params):
            if name in want and name not in got:
                yield Finding("no-gradient", name, got="none", want="the model's gradient", case=case)
            elif name in want:
                allowed = self.witnesses.allowed(name)
                yield from compare.close(name, got.joined(name), want.joined(name), allowed, case=case)
            elif name in got and got.joined(name).any():
                yield Finding("made-up", name, got="a gradient", want="none, as in the model", case=case)

    def _tried(self, exact: Recording) -> list[str]:
        """Parameters for finite differences: first those to which the model gives no gradient, then seeded ones."""
        names = sorted(name for name, value in self.pair.boot.reference.named_parameters() if value.requires_grad)
        silent = [name for name in names if name not in exact or not exact.joined(name).any()]
        return [*silent, *random.Random(self.pair.layout.name).sample(names, len(names))][:TRIED]

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
            self._differentiate("subject", logits, recording, _parameters(bridge.original_model), shallow)
        return recording

    def of_model(self, dtype: torch.dtype, edit: Edit | None = None, *, shallow: bool = False) -> Recording:
        """The equations, differentiated in `dtype` and kept in fp32; without an oracle the reference, in fp32."""
        pair, recording = self.pair, Recording()
        boot = pair.boot
        if boot.oracle is None:
            return self._of_reference(edit)
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

    def _of_reference(self, edit: Edit | None = None) -> Recording:
        pair, recording = self.pair, Recording()
        reference = pair.boot.reference
        # Where there are equations, they speak of the taps.
        points = pair.boot.spec.points if pair.boot.oracle is None else {}
        pair.boot.forwards["reference"] += 1
        with torch.enable_grad():
            logits = taps.through_modules(
                lambda: reference(**pair.inputs),
                reference,
                points,
                pair.boot.layers,
                lambda name, tensor: _node(recording, name, tensor, edit, torch.clone),
            )
            self._differentiate("reference", logits, recording, _parameters(reference))
        return recording

    def along(self, name: str) -> tuple[float, float, float]:
        """Slope of the objective along one parameter of the subject: the way its gradient points, else a seeded way.

        Returns the derivative by its gradient, the central difference, and the distance of its two points. The
        parameter moves a little, and back, bit for bit.
        """
        pair, bridge = self.pair, self.pair.boot.bridge
        parameter = _parameters(bridge.original_model)[name]
        before = parameter.detach().clone()
        kept = self.told.kept[name]
        gradient = torch.zeros_like(before) if kept is None else kept
        drawn = torch.randn(before.shape, generator=torch.Generator().manual_seed(4))
        direction, step = (gradient, STEP) if gradient.any() else (drawn, SEEDED_STEP)
        direction = direction * (before.square().mean() / direction.square().mean()).sqrt()
        losses = []
        try:
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.copy_(before + sign * step * direction)
                losses.append(objective(pair, pair.call()).item())
        finally:
            with torch.no_grad():
                parameter.copy_(before)
        return float((gradient * direction).sum()), (losses[0] - losses[1]) / (2 * step), 2 * step

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
        """Parameters whose gradients pass every hook and cost little: the first of the model, and all vectors."""
        named = list(self.pair.boot.reference.named_parameters())
        return {name for number, (name, value) in enumerate(named) if number == 0 or value.ndim < 2}

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


def objective(pair: Pair, logits: Tensor) -> Tensor:
    """Mean cross-entropy of seeded targets at the masked positions that have logits, or at all where none is masked.

    It is the masked-diffusion objective (arXiv 2406.07524, eq. 8) without its weight by noise level, which only
    scales rows; defined for every model that predicts tokens.
    """
    sizes = pair.boot.sizes
    start, stop = (Size(bound).of(sizes) for bound in pair.layout.returns or ("0", str(pair.length)))
    ids, mask = pair.inputs["input_ids"][:, start:stop], pair.boot.spec.mask_token
    targets = torch.randint(sizes["d_vocab"], ids.shape, generator=torch.Generator().manual_seed(3))
    masked = torch.zeros_like(ids, dtype=torch.bool) if mask is None else ids == mask.of(sizes)
    if not masked.any():
        masked = torch.ones_like(masked)
    return nn.functional.cross_entropy(logits[masked], targets[masked])


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


def _unequal(name: str, one: Recording, other: Recording) -> Iterator[Finding]:
    if name in one and name in other:
        yield from compare.exact(name, one.joined(name), other.joined(name))
    elif name in one or name in other:
        yield Finding("no-gradient", name, got="a gradient on one side only", want="one with either hook")


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


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return {components.own_name(name): value for name, value in model.named_parameters()}
