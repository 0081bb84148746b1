"""What checks make of a mixture: points that some layers lack, parts without gradients, rows that meet in a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.llada2_moe_repaired import SPEC

FIXTURE = checkpoint.fixture_folder("llada2_moe")


@pytest.fixture
def boot() -> Any:
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC), trusted=True)


def test_a_point_is_in_the_layers_that_have_its_module(boot: Any) -> None:
    from conformance.taps import paired

    points = {"blocks.{layer}.mlp": "model.layers.{layer}.mlp", "blocks.{layer}.r": "model.layers.{layer}.mlp.gate?"}
    assert list(paired(points, 2, boot.reference)) == [
        ("blocks.0.mlp", "model.layers.0.mlp"),
        ("blocks.1.mlp", "model.layers.1.mlp"),
        ("blocks.1.r", "model.layers.1.mlp.gate"),
    ]
    for path, told in (("router?", "no module of the model is"), ("mlp.gate", "only some layers have")):
        with pytest.raises(ValueError, match=told):
            list(paired({"blocks.{layer}.r": f"model.layers.{{layer}}.{path}"}, 2, boot.reference))


def test_experts_without_gradients_are_alive_by_the_equations_and_dead_ones_are_not(boot: Any) -> None:
    from conformance.checks.loading.tensors import live_parameters

    assert list(live_parameters(boot)) == []
    boot = type(boot)(boot.spec, boot.folder, boot.trusted)
    boot.params["model.layers.1.mlp.experts.3.down_proj.weight"].zero_()
    dead = {finding.at for finding in live_parameters(boot)}
    assert dead == {f"model.layers.1.mlp.experts.3.{part}_proj.weight" for part in ("gate", "up")}


def test_rows_that_meet_in_a_product_may_be_rounded_by_it_and_no_more(boot: Any) -> None:
    from conformance.checks.parity.taps import _rows_apart, rows

    def mixed(share: float) -> Callable[[Any], None]:
        """Every row gets a share of all rows' mean, where the last norm begins."""

        def amend(bridge: Any) -> None:
            norm = bridge.original_model.model.norm.original_component
            norm.register_forward_pre_hook(lambda _, args: (args[0] + share * args[0].mean(dim=0, keepdim=True),))

        return amend

    def found(share: float | None) -> set[str]:
        amend = None if share is None else mixed(share)
        other = type(boot)(boot.spec, boot.folder, boot.trusted, amend=amend)
        return {finding.code for pair in other.pairs.values() for finding in rows(pair)}

    assert found(None) == set()
    strict = all(_rows_apart(pair) for pair in boot.pairs.values())
    assert found(1e-3) == {"not-bit-equal" if strict else "value-mismatch"}


def test_a_layer_of_experts_is_asked_for_its_own_activations_not_for_its_ends(boot: Any) -> None:
    pair = boot.pairs["full"]
    inside = (2, 24, boot.sizes["experts"], boot.sizes["d_expert"])
    for name in ("blocks.1.mlp.hook_pre", "blocks.1.mlp.hook_post"):
        assert tuple(pair.want(name).shape) == inside
        assert pair.differs(name)
    assert not pair.differs("blocks.0.mlp.hook_pre")


def test_backward_hooks_are_asked_for_where_the_equations_have_a_gradient_and_the_model_cuts_it(boot: Any) -> None:
    import torch

    pair = boot.pairs["full"]
    exact, reference = pair.backward.of_model(torch.float64), pair.backward.of_reference()
    cut = {name for name in boot.params if name in exact and name not in reference}
    assert cut == {name for name in boot.params if ".experts." in name or name.endswith("mlp.gate.weight")}
    assert "blocks.1.mlp.gate.hook_in" in exact.taps
