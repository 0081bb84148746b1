"""Ten defects, one at a time, each in a subject that is otherwise as good as the shipped one: the run is red,
and its message names the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ON_MODEL = """
class Adapter(Shipped):
    def prepare_model(self, model):
        super().prepare_model(model)
{defect}
"""

IN_MODEL = {
    "block relation off by one block": (
        """
        mask, block = model.backbone.mask, model.config.block_size
        model.backbone.mask = mask.roll(block, dims=1)
        """,
        "mask/relation-tensor",
        "backbone.mask: relation: got",
    ),
    "halves swapped": (
        """
        n = model.config.model_length
        model.backbone.mask = model.backbone.mask.roll((n, n), dims=(0, 1))
        """,
        "mask/relation-tensor",
        "backbone.mask: relation: got",
    ),
    "query and key rows of one layer swapped": (
        """
        import torch
        weight = model.backbone.blocks[1].attn_qkv.weight
        q, k, v = weight.detach().chunk(3)
        with torch.no_grad():
            weight.copy_(torch.cat((k, q, v)))
        """,
        "loading/parameters",
        "backbone.blocks.1.attn_qkv.weight: not-bit-equal",
    ),
    "a parameter left at its initial value": (
        """
        model.backbone.blocks[0].adaLN_modulation.bias.data.zero_()
        """,
        "loading/parameters",
        "backbone.blocks.0.adaLN_modulation.bias: not-bit-equal",
    ),
}


@pytest.mark.parametrize("name", IN_MODEL)
def test_defect_in_the_model(run: Callable, third_party: Callable, name: str) -> None:
    defect, requirement, message = IN_MODEL[name]
    found = run("--adapter", third_party(ON_MODEL.format(defect=defect)))
    assert found.result.ret == 1
    assert "FAIL" in found.verdicts(requirement).values()
    assert message in found.text
