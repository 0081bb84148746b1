"""Tensors: what the booted model holds is what the checkpoint holds. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...judge import Evidence
    from ...pair import Pair
    from ...subject import Boot


@requirement("loading/parameters", level=MUST)
def parameters(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Every tensor of the checkpoint MUST be in the booted model, bit for bit, once, and nothing else may be.

    A tensor that is left at its initial value, or loaded twice, changes the model under the researcher; two in one
    memory are edited together.
    """
    from ... import memory

    loaded = _by_storage_name(boot)
    evidence.facts["tensors"] = len(boot.params)
    for name, wanted in boot.params.items():
        if name not in loaded:
            yield Finding("missing", name, got="no such tensor", want=f"{list(wanted.shape)}")
        elif not memory.same(loaded[name], wanted):
            yield Finding("not-bit-equal", name, got="other values than the file", want="the checkpoint's")
    for name in sorted(loaded.keys() - boot.params.keys()):
        yield Finding("left-over", name, got="a tensor the checkpoint does not have", want="none")
    # Weights that the model itself ties may stand in the file twice.
    for name, other in sorted(_tied(loaded, boot).items() - _tied(dict(boot.reference.state_dict()), boot).items()):
        yield Finding("shared", name, got=f"the memory of {other}", want="its own, as in the file")


@requirement("loading/live-parameters", level=MUST)
def live_parameters(boot: Boot) -> Iterator[Finding]:
    """Every parameter of the checkpoint MUST move the logits in some layout.

    A gate or an output layer that is still zero, as at initialisation, makes every comparison vacuous.
    """
    from ...taps import logits_of

    reference, oracle = boot.reference, boot.oracle
    silent = _silent(boot, lambda pair: logits_of(reference(**pair.inputs)), dict(reference.named_parameters()))
    if silent and oracle is not None:
        # A part of the model may run without gradients; the equations, which agree with its logits, do not.
        leaves = {name: boot.params[name].detach().requires_grad_() for name in silent}
        params = {**boot.params, **leaves}
        silent = _silent(boot, lambda pair: oracle(params, boot.config, pair.inputs, lambda _, tensor: tensor), leaves)
    for name in sorted(silent):
        yield Finding("without-effect", name, got="gradient 0 in every layout", want="an influence on the logits")


def _silent(boot: Boot, run: Callable[[Pair], Tensor], parameters: Mapping[str, Tensor]) -> set[str]:
    """The parameters that get no gradient from a seeded sum of the logits of any layout."""
    import torch

    silent = set(parameters)
    for pair in boot.pairs.values():
        with torch.enable_grad():
            logits = run(pair)
            weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
            gradients = torch.autograd.grad((logits * weights).sum(), list(parameters.values()), allow_unused=True)
        silent -= {name for name, g in zip(parameters, gradients, strict=True) if g is not None and g.abs().max() > 0}
    return silent


@requirement("loading/eval-mode", level=MUST)
def eval_mode(pair: Pair) -> Iterator[Finding]:
    """A booted model MUST be in eval mode in every part, and two forwards of one input MUST be bit-equal.

    Dropout that is left on turns every measured effect into noise that looks like a result.
    """
    from ...compare import exact

    for owner, model in (("bridge", pair.boot.bridge), ("model", pair.boot.bridge.original_model)):
        for name, module in model.named_modules():
            if module.training:
                yield Finding("training", f"{owner}.{name}".rstrip("."), got="training mode", want="eval mode")
    yield from exact("logits", pair.call(), pair.plain)


def _tied(held: Mapping[str, Tensor], boot: Boot) -> dict[str, str]:
    """Tensors of the checkpoint that lie where another one of it does, each with the first one there."""
    first: dict[int, str] = {}
    held = {name: held[name] for name in boot.params if name in held and held[name].numel()}
    firsts = {name: first.setdefault(tensor.data_ptr(), name) for name, tensor in held.items() if not tensor.is_meta}
    return {name: other for name, other in firsts.items() if name != other}


def _by_storage_name(boot: Boot) -> dict[str, Tensor]:
    """Tensors of the booted model under the checkpoint's names, wherever the bridge has put them.

    Buffers that no file holds are left out.
    """
    from ... import components, memory
    from .tables import unsaved

    model = boot.bridge.original_model
    found = {components.own_name(name): tensor for name, tensor in memory.parameters_and_buffers(model).items()}
    modules = model.named_modules(remove_duplicate=False)
    left = {f"{path}.{name}".lstrip(".") for path, module in modules for name in unsaved(module)}
    unfilled = {components.own_name(name) for name in left}
    storages = {found[name].data_ptr() for name in found if name in boot.params}
    return {
        name: tensor
        for name, tensor in found.items()
        if name in boot.params or (name not in unfilled and tensor.data_ptr() not in storages)
    }
