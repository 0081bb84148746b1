"""Declaring less never passes more: what a spec leaves out is found missing, and the judges cannot be declared away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

WRONG = """
class Adapter(Shipped):
    def prepare_model(self, model):
        super().prepare_model(model)
        inner = model.forward
        model.forward = lambda *args, **kwargs: inner(*args, **kwargs) * 3 + 1
"""


def entry(requirement: str, at: str, finding: str) -> str:
    fields = {"requirement": requirement, "at": at, "finding": finding, "because": "it is so"}
    return "\n[[deviation]]\n" + "".join(f'{name} = "{value}"\n' for name, value in fields.items())


@pytest.mark.parametrize(
    ("fields", "requirement"), [("truths={}", "loading/config-truths"), ("points={}", "hooks/pairing")]
)
def test_an_empty_table_is_a_finding(run: Callable, spec: Callable, fields: str, requirement: str) -> None:
    found = run("--adapter", spec(fields))
    assert set(found.verdicts(requirement).values()) == {"FAIL"}
    assert "undeclared" in found.text


def test_without_an_oracle_wrong_logits_are_still_wrong(run: Callable, spec: Callable, third_party: Callable) -> None:
    path = third_party(WRONG, ledger=lambda text: text + entry("parity/oracle", "oracle", "no-oracle"))
    module = path.partition(":")[0]
    with open(f"{module}.py", "a") as file:
        file.write("SPEC = replace(SPEC, oracle=None)\n")
    found = run("--adapter", path)
    assert set(found.verdicts("parity/oracle").values()) == {"DEVIATION"}
    assert set(found.verdicts("parity/logits").values()) == {"FAIL"}


@pytest.mark.parametrize("requirement", ["parity/oracle", "loading/independence"])
def test_what_makes_a_judge_cannot_be_declared_away(refused: Callable, third_party: Callable, requirement: str) -> None:
    path = third_party(ledger=lambda text: entry(requirement, "logits", "value-mismatch"))
    refused(f"ledger *, entry 1: {requirement} cannot be declared, all else rests on it; mend it", "--adapter", path)
