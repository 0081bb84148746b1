"""Ten defects, one at a time, each in a subject that is otherwise as good as the shipped one.

A run of the family that speaks of the defect is red, its requirement fails, and the message names the place.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

SOUND = "class Adapter(Shipped):\n    pass"

ADAPTERS = {
    "block relation off by one block": (
        """
        class Adapter(Shipped):
            def prepare_model(self, model):
                super().prepare_model(model)
                model.backbone.mask = model.backbone.mask.roll(model.config.block_size, dims=1)
        """,
        "mask/relation-tensor",
        "backbone.mask: relation: got",
    ),
    "noisy and clean halves swapped": (
        """
        class Adapter(Shipped):
            def prepare_model(self, model):
                super().prepare_model(model)
                n = model.config.model_length
                model.backbone.mask = model.backbone.mask.roll((n, n), dims=(0, 1))
        """,
        "mask/relation-tensor",
        "backbone.mask: relation: got",
    ),
    "query and key rows of one layer swapped": (
        """
        import torch

        class Adapter(Shipped):
            def prepare_model(self, model):
                super().prepare_model(model)
                weight = model.backbone.blocks[1].attn_qkv.weight.data
                q, k, v = weight.chunk(3)
                weight.copy_(torch.cat((k, q, v)))
        """,
        "loading/parameters",
        "backbone.blocks.1.attn_qkv.weight: not-bit-equal",
    ),
    "a hook renamed": (
        """
        class Adapter(Shipped):
            def __init__(self, cfg):
                super().__init__(cfg)
                parts = self.component_mapping["blocks"].submodules
                parts["modulation"] = parts.pop("adaln_modulation")
        """,
        "hooks/complete",
        "blocks.0.adaln_modulation.hook_in: missing",
    ),
    "a hook that discards edits": (
        """
        from transformer_lens.model_bridge.generalized_components import LinearBridge

        class Deaf(LinearBridge):
            def forward(self, x, *args, **kwargs):
                out = self.original_component(self.hook_in(x))
                self.hook_out(out)
                return out

        class Adapter(Shipped):
            def __init__(self, cfg):
                super().__init__(cfg)
                self.component_mapping["blocks"].submodules["attn"].submodules["o"] = Deaf(name="attn_out")
        """,
        "interventions/edits",
        "blocks.0.attn.o.hook_out: edit-discarded",
    ),
    "a parameter left at its initial value": (
        """
        class Adapter(Shipped):
            def prepare_model(self, model):
                super().prepare_model(model)
                model.backbone.blocks[0].adaLN_modulation.bias.data.zero_()
        """,
        "loading/parameters",
        "backbone.blocks.0.adaLN_modulation.bias: not-bit-equal",
    ),
    "dropout left on": (
        """
        class Adapter(Shipped):
            def prepare_model(self, model):
                super().prepare_model(model)
                model.backbone.blocks[1].train()
                model.backbone.blocks[1].eval = lambda: None
                model.backbone.blocks[1].train = lambda mode=True: None
        """,
        "loading/eval-mode",
        "backbone.blocks.1",
    ),
    "two norms swapped in the adapter's mapping": (
        """
        class Adapter(Shipped):
            def __init__(self, cfg):
                super().__init__(cfg)
                parts = self.component_mapping["blocks"].submodules
                parts["ln1"].name, parts["ln2"].name = "norm2", "norm1"
        """,
        "hooks/pairing",
        "blocks.0.ln1: wrong-module: got backbone.blocks.0.norm2, want backbone.blocks.0.norm1",
    ),
}


def entry(**fields: str) -> str:
    return "\n[[deviation]]\n" + "".join(f'{name} = "{value}"\n' for name, value in fields.items())


def without(requirement: str, at: str) -> Callable[[str], str]:
    """A ledger that lost one entry."""

    def edit(text: str) -> str:
        blocks = text.split("[[deviation]]")
        kept = [block for block in blocks if not (f'"{requirement}"' in block and f'"{at}"' in block)]
        assert len(kept) == len(blocks) - 1
        return "[[deviation]]".join(kept)

    return edit


STALE = entry(requirement="parity/logits", at="logits", finding="value-mismatch", because="it was once so")

LEDGERS = {
    "a cache that keeps one of two firings": (
        without("cache/keeps-every-firing", "blocks.{layer}.attn.qkv.hook_in"),
        "cache/keeps-every-firing",
        "blocks.0.attn.qkv.hook_in: firing-lost: got float32[2, 21, 24], want float32[2, 42, 24]: 2 firings",
    ),
    "a new undeclared deviation": (
        without("loading/config-truths", "cfg.n_ctx"),
        "loading/config-truths",
        "cfg.n_ctx: untrue: got 2048, want 21",
    ),
    "a stale ledger entry": (
        lambda text: text + STALE,
        "parity/logits",
        "logits: stale: got no finding, want value-mismatch, as the ledger declares; delete the entry if it is mended",
    ),
}


def test_the_same_subject_without_a_defect_is_green(run: Callable, third_party: Callable) -> None:
    found = run("--adapter", third_party(), timed=True)
    assert found.result.ret == 0
    assert found.report["verdicts"]["state"] == "COMPLETE"
    assert found.report["verdicts"]["adapters"][0]["summary"]["conforms"] is True


@pytest.mark.parametrize("name", ADAPTERS)
def test_defect_of_an_adapter(run: Callable, third_party: Callable, name: str) -> None:
    body, requirement, message = ADAPTERS[name]
    found = run("--adapter", third_party(textwrap.dedent(body)), "-m", requirement.partition("/")[0])
    assert found.result.ret == 1
    assert "FAIL" in found.verdicts(requirement).values()
    assert message in found.text


@pytest.mark.parametrize("name", LEDGERS)
def test_defect_of_a_ledger(run: Callable, third_party: Callable, name: str) -> None:
    edit, requirement, message = LEDGERS[name]
    found = run("--adapter", third_party(SOUND, ledger=edit), "-m", requirement.partition("/")[0])
    assert found.result.ret == 1
    assert "FAIL" in found.verdicts(requirement).values()
    assert message in found.text
