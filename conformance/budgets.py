"""Budgets by name: how far a tensor may lie from what is wanted, and where that figure comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Allowed(float):
    """How far one comparison may be off, and which budget says so."""

    budget: str

    def __new__(cls, value: float, budget: str) -> Allowed:
        """A float that remembers its budget."""
        made = super().__new__(cls, value)
        made.budget = budget
        return made

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        """What a copy is made from."""
        return float(self), self.budget


@dataclass(frozen=True, slots=True)
class Budget:
    """A named tolerance between two ways of computing one tensor.

    It is `noise` times the noise floor at that tensor, which is how far fp32 arithmetic alone was measured to move it,
    and never less than `ulps` units in the last place of its largest entry, where the measurement had luck.
    """

    name: str
    noise: float
    ulps: float

    def of(self, want: Tensor, noise: float = 0.0) -> Allowed:
        """The budget at a tensor, given its noise floor."""
        from .compare import ulp

        return Allowed(max(self.ulps * ulp(want), self.noise * noise), self.name)


WITNESS = Budget("witness", noise=8, ulps=8)
"""What the bridge shows, against what the reference or the oracle in fp64 says."""

PATHS = Budget("paths", noise=16, ulps=16)
"""Two paths through fp32, neither of which is the witness."""

ORACLE = Budget("oracle", noise=0, ulps=128)
"""Reference against oracle, where the noise floor is what is being asked about; beyond it neither may judge."""

BUDGETS = (WITNESS, PATHS, ORACLE)
"""All of them, as `contract.lock` keeps them."""
