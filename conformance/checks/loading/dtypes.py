"""Dtypes: a bridge in another precision is the same model, or says that it cannot be. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...judge import Evidence
    from ...pair import Pair
    from ...subject import Boot

DTYPES = ("bfloat16", "float64")
"""What users ask for besides fp32: half the memory, or numbers that are beyond doubt."""


AUTOCAST_NOISE = 8.0
"""How far a bridge in bf16 may stray, as a multiple of what the reference strays under autocast.

Measured on the miniature: a model that follows its dtype strays by up to 2.0 of these, as its weights are rounded too;
logits of other positions by 50 and more.
"""


@requirement("loading/dtypes", level=MUST, needs=("loading/runs",))
def dtypes(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """A boot in bfloat16 or float64 MUST give parameters and logits of that precision, or be refused by its name.

    A cast somewhere on the way costs every digit that was asked for, or dies in a product of two dtypes.
    """
    import torch

    small = boot.small
    for name in DTYPES:
        dtype: torch.dtype = getattr(torch, name)
        try:
            bridge = small.boot_again(dtype=dtype)
        except Exception as error:
            evidence.refused |= _names(error, name)
            if not _names(error, name):
                want = f"a bridge, or an error that names {name}"
                yield Finding("raised", name, got=_told(error), want=want, case="boot")
            continue
        held = {n: p.dtype for n, p in bridge.original_model.named_parameters() if p.is_floating_point()}
        if others := [n for n, found in held.items() if found is not dtype]:
            got = f"{len(others)} parameters in {str(held[others[0]]).removeprefix('torch.')}"
            yield Finding("wrong-dtype", name, got=got, want=f"all in {name}")
            continue
        for pair in small.pairs.values():
            yield from _forward(pair, bridge, name, dtype, evidence)


def _forward(pair: Pair, bridge: Any, name: str, dtype: torch.dtype, evidence: Evidence) -> Iterator[Finding]:
    from ...compare import close
    from ...pair import SubjectRaised

    try:
        logits = pair.call(bridge=bridge)
    except SubjectRaised as raised:
        error = raised.__cause__
        evidence.refused |= _names(error, name)
        if not _names(error, name):
            got = f"{_told(error)}{_under_autocast(pair, bridge, dtype)}"
            yield Finding("raised", name, got=got, want=f"logits, or an error on {name}", case=pair.layout.name)
        return
    want = _exact(pair)
    yield from close(name, logits.double(), want, _allowed(pair, dtype, want), case=pair.layout.name)


def _exact(pair: Pair) -> Tensor:
    """The logits in fp64 by the equations; without any, the reference's."""
    import torch

    boot = pair.boot
    if boot.oracle is None:
        return pair.reference.logits.double()
    boot.forwards["oracle"] += 1
    with torch.no_grad():
        return boot.oracle(boot.params_in(torch.float64), boot.config, pair.inputs, lambda name, tensor: tensor)


def _allowed(pair: Pair, dtype: torch.dtype, want: Tensor) -> float:
    """In fp64 as many units in the last place as fp32 may stray; in bf16 a multiple of what autocast strays."""
    import torch

    from ...compare import distance
    from ...taps import logits_of

    if dtype is torch.float64:
        unit = torch.finfo(dtype).eps / torch.finfo(torch.float32).eps
        return pair.allowed("logits") * (unit if pair.boot.oracle is not None else 1.0)
    # A model of its own: tables that are cached under autocast would stay.
    model = pair.boot.construct()
    with torch.no_grad(), torch.autocast("cpu", dtype):
        noise = distance(logits_of(model(**pair.inputs)).double(), want)
    return AUTOCAST_NOISE * noise


def _under_autocast(pair: Pair, bridge: Any, dtype: torch.dtype) -> str:
    """What becomes of the same forward under autocast, which casts where the model does not; nothing for fp64."""
    import torch

    from ...pair import SubjectRaised

    if dtype is torch.float64:
        return ""
    try:
        with torch.autocast("cpu", dtype):
            pair.call(bridge=bridge)
    except SubjectRaised:
        return "; under autocast too"
    return "; it runs under autocast"


def _names(error: BaseException | None, name: str) -> bool:
    """Whether an error is meant as a refusal of a dtype, and no accident deep in torch."""
    from ...pair import REFUSALS

    return isinstance(error, REFUSALS) and name in str(error).lower()


def _told(error: BaseException | None) -> str:
    """Kind and last line of an error; those before it may speak of this machine."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1][:120]}"
