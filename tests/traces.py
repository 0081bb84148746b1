"""What tests of traces share: a bridge, traces of two samplers, and what must be as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from conformance import trace_denoising

PROMPT = ("abcd", "wxyz")
RESID = "blocks.1.hook_resid_post"


def booted(spec: Any) -> Any:
    """An adapter on BD3LM's miniature."""
    from conformance import checkpoint
    from conformance.adapters.bd3lm import SPEC
    from conformance.subject import Boot

    return Boot(spec, checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC), trusted=True).bridge


@contextmanager
def left_alone(bridge: Any) -> Iterator[None]:
    """Whatever happens, no hook is left behind, and nothing is warned of that is not expected."""
    assert attached(bridge) == [0, 0, 0, 0]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="trace_denoising")
        yield
    assert attached(bridge) == [0, 0, 0, 0]


def attached(bridge: Any) -> list[int]:
    model = bridge.original_model
    hooks = sum(len(point.fwd_hooks) + len(point._forward_hooks) for point in bridge.hook_dict.values())
    return [hooks, len(model._forward_pre_hooks), len(model._forward_hooks), bridge.context_level]


def ids(*rows: str) -> Any:
    import torch

    return torch.tensor([[ord(letter) % 60 for letter in row] for row in rows])


def plain(bridge: Any, prompt: Any = None, **options: Any) -> Any:
    """A trace of the plain sampler."""
    from plain_sampler import unmask

    return trace_denoising(bridge, ids(*PROMPT) if prompt is None else prompt, sampler=unmask, **options)


def reference(bridge: Any, **options: Any) -> Any:
    """A trace of the reference sampler."""
    from conformance.reference.sampler import denoise

    return trace_denoising(bridge, ids(*PROMPT), sampler=denoise, **{"length": 15, "seed": 3, **options})


class Watched(list):
    """An observer that copies what it sees, and asks no hook."""

    def before(self, step: Any) -> None:
        self.step = replace(step, canvas=step.canvas.clone(), masked=step.masked.clone())

    def after(self, step: Any, outcome: Any) -> None:
        self.append((self.step, replace(outcome, canvas=outcome.canvas.clone())))


def same(one: Any, other: Any) -> bool:
    return one is other is None or (one.dtype == other.dtype and one.equal(other))
