"""Witnesses: the reference and the oracle on one input, what they say a tap holds, and how far fp32 may stray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from . import compare
from .taps import Recording, headwise


@dataclass
class Witnesses:
    """What a tensor should be, by its name: at a module boundary the reference's, elsewhere the oracle's.

    Each witness is heard when first asked for, once. `hear_oracle` computes the equations in a dtype, and may record
    of what it is held against no more than how far it is off; without an oracle it returns an empty recording.
    """

    hear_reference: Callable[[], Recording]
    hear_oracle: Callable[[torch.dtype, Recording], Recording]

    @cached_property
    def reference(self) -> Recording:
        """The remote model, in fp32."""
        return self.hear_reference()

    @property
    def exact(self) -> Recording:
        """The oracle in fp64, kept in fp32, or as a shape where the reference has the tensor; empty without one."""
        return self._heard[0]

    @cached_property
    def _heard(self) -> tuple[Recording, dict[str, float]]:
        """The oracle, and by name how far fp32 arithmetic alone moves a tensor: the reference's, else its own."""
        exact = self.hear_oracle(torch.float64, self.reference)
        rounded = self.hear_oracle(torch.float32, exact)
        names = [name for name in (*exact.taps, "logits") if name in exact and exact.joined(name).is_floating_point()]
        noise = {**rounded.apart, **exact.apart}
        for name in names:
            if name not in noise:
                single = self.reference if name in self.reference else rounded
                noise[name] = compare.distance(single.joined(name), exact.joined(name))
        return exact, noise

    def want(self, name: str) -> Tensor | None:
        """What the tap should hold, None where no witness knows.

        What an alias stands for is never read off the bridge, which could point it anywhere. Whether a hook shows its
        channels by head is the oracle's to say.
        """
        if name in self.reference:
            found = self.reference.joined(name)
            return headwise(found, self.exact.joined(name).shape) if name in self.exact else found
        return self.exact.joined(name) if name in self.exact else None

    def allowed(self, name: str, budget: compare.Budget = compare.WITNESS) -> compare.Allowed:
        """A budget at a tap, whose noise floor is fp32 against the oracle's fp64; 0 at a tap of integers."""
        want = self.want(name)
        if want is None or not want.is_floating_point():
            return compare.Allowed(0.0, "none")
        return budget.of(want, self._heard[1].get(name, 0.0))

    def contradict(self, name: str, recording: Recording, under: str) -> bool:
        """Whether they know this name, and a recording holds another tensor under its canonical one."""
        want = self.want(name)
        if want is None or under not in recording:
            return False
        return any(compare.close(name, recording.joined(under), want, self.allowed(name)))
