"""Weights on the move: restored from a state dict, cast and switched, and back. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...pair import Pair
    from ...subject import Boot


@requirement("loading/state-dict", level=MUST, needs=("loading/two-boots",))
def state_dict(boot: Boot) -> Iterator[Finding]:
    """A bridge's state dict MUST restore it bit for bit after its weights were changed, copied or assigned, and what is
    missing or unknown in one be told.

    An experiment that edits weights puts them back this way; where nothing is loaded, the next starts from the last.
    """
    import torch

    from ...compare import exact
    from ...pair import blamed_on_subject

    pair, bridge, before = _another(boot.small)
    kept = {name: tensor.clone() for name, tensor in bridge.state_dict().items()}
    for assign in (False, True):
        case = f"assign={assign}"
        with torch.no_grad():
            for parameter in bridge.original_model.parameters():
                parameter.mul_(1.5)
        if pair.call(bridge=bridge).equal(before):
            yield Finding("not-changed", "logits", got="the same", want="others, with other weights", case=case)
        with blamed_on_subject():
            bridge.load_state_dict({name: tensor.clone() for name, tensor in kept.items()}, assign=assign)
        yield from exact("logits", pair.call(bridge=bridge), before, case=case)
    lost, unknown = next(iter(kept)), "conformance_unknown"
    wrong = {**{name: tensor for name, tensor in kept.items() if name != lost}, unknown: torch.ones(1)}
    with blamed_on_subject():
        told = bridge.load_state_dict(wrong, strict=False)
    for kind, name in (("missing_keys", lost), ("unexpected_keys", unknown)):
        if name not in getattr(told, kind, ()):
            yield Finding("untold", kind, got="not among them", want=name, case="strict=False")
    try:
        bridge.load_state_dict(wrong)
    except Exception as error:
        for name in (lost, unknown):
            if name not in str(error):
                yield Finding("unclear-error", "load_state_dict", got=type(error).__name__, want=f"one on {name}")
        return
    yield Finding("accepted", "load_state_dict", got="no error", want=f"one on {lost} and {unknown}")


@requirement("loading/there-and-back", level=MUST, needs=("loading/two-boots", "loading/eval-mode"))
def there_and_back(boot: Boot) -> Iterator[Finding]:
    """Cast to fp64 and back, and set to training and back, a bridge MUST have every part follow, keep its names, its
    number of parameters and its bytes, and give the first logits bit for bit.

    A part that does not follow drops out at random in evaluation; one that is registered on the way is moved twice.
    """
    import torch

    from ... import memory
    from ...compare import exact

    pair, bridge, logits = _another(boot.small)

    def held() -> dict[str, object]:
        tensors = memory.parameters_and_buffers(bridge)
        return {
            "names": sorted(bridge.state_dict()),
            "parameters": len(list(bridge.parameters())),
            "bytes": sum({memory.address(t): t.untyped_storage().nbytes() for t in tensors.values()}.values()),
        }

    before = held()
    for training in (True, False):
        bridge.train(training)
        for owner, model in (("bridge", bridge), ("model", bridge.original_model)):
            for name, module in model.named_modules():
                if module.training is not training:
                    at, mode = f"{owner}.{name}".rstrip("."), {True: "training", False: "eval"}
                    yield Finding("left", at, got=f"{mode[not training]} mode", want=f"{mode[training]} mode")
    # TransformerLens tells on the terminal that it casts.
    with contextlib.redirect_stdout(io.StringIO()):
        for dtype in (torch.float64, torch.float32):
            bridge.to(dtype)
            for name, parameter in bridge.original_model.named_parameters():
                if parameter.dtype is not dtype:
                    yield Finding("left", name, got=str(parameter.dtype), want=str(dtype))
    for what, count in held().items():
        if count != before[what]:
            yield Finding("grown", what, got=_counted(count), want=_counted(before[what]))
    yield from exact("logits", pair.call(bridge=bridge), logits)


def _another(boot: Boot) -> tuple[Pair, Any, Tensor]:
    """The pair in one layout, a bridge that may be changed, and what it gives once it has run before."""
    from ...pair import blamed_on_subject

    pair = next(iter(boot.pairs.values()))
    with blamed_on_subject():
        bridge = boot.boot_again()
    pair.call(bridge=bridge)
    return pair, bridge, pair.call(bridge=bridge)


def _counted(value: object) -> str:
    return f"{len(value)} of them" if isinstance(value, list) else str(value)
