"""Right at the config that was tried, wrong at another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import NoPlace, mutant
from ..surgery import (
    around_firing,
    first,
    having,
    inner_hook,
    inside_a_layer,
    mask_path,
    on_bridge,
    shown_twice_as_large,
)
from .conditioning import given
from .model import module

if TYPE_CHECKING:
    from ...subject import Boot


def _with_other_heads(boot: Boot, defect: Callable[[Any], None]) -> None:
    """Put a defect into bridges whose model has another number of heads."""

    def where_it_differs(bridge: Any) -> None:
        if getattr(bridge.original_model.config, boot.spec.sizes["heads"]) != boot.sizes["heads"]:
            defect(bridge)

    on_bridge(boot, where_it_differs)


@mutant(kills="parity/variants")
def knows_one_number_of_heads(boot: Boot) -> None:
    """The adapter insists on the number of heads that its author had."""

    def refuse(bridge: Any) -> None:
        raise ValueError(f"want {boot.sizes['heads']} heads")

    _with_other_heads(boot, refuse)


@mutant(kills="parity/variants")
def splits_by_the_first_heads(boot: Boot) -> None:
    """With another number of heads a hook shows what is not there.

    TransformerLens splits heads by what most layers have.
    """

    def defect(bridge: Any) -> None:
        shown_twice_as_large(bridge, inner_hook(bridge))

    _with_other_heads(boot, defect)


@mutant(kills="parity/variants")
def silent_with_other_heads(boot: Boot) -> None:
    """With another number of heads the way through a component's own hooks is left, and they stay silent."""
    point = inside_a_layer(boot)

    def defect(bridge: Any) -> None:
        around_firing(bridge, f"{point}.hook_out", lambda fire, tensor: tensor)

    _with_other_heads(boot, defect)


def _groups_repeated_as_a_whole(boot: Boot, grouped: bool) -> None:
    """Pair heads in turns with groups of keys that are their neighbours'; `grouped`: in the config tried first."""
    queries, keys, out = (f"blocks.{{layer}}.attn.{name}" for name in ("q", "k", "o"))
    rows = [
        boot.params[f"{having(boot.spec.points.get(point), point)}.weight".replace("{layer}", "0")].shape[0]
        for point in (queries, keys)
    ]
    if (rows[0] > rows[1]) is not grouped:
        raise NoPlace(f"heads {'do not ' if grouped else ''}share keys in the config that is tried first")
    having(boot.spec.points.get(out), out)

    def defect(bridge: Any) -> None:
        asking, asked, after = (module(boot, bridge, point).weight for point in (queries, keys, out))
        width = len(asking) // getattr(bridge.original_model.config, boot.spec.sizes["heads"])
        apart = (len(asked) // width, -1, width)
        # Heads that change places at both ends are the same heads; only whose keys they get is another.
        asking.data = asking.data.unflatten(0, apart).transpose(0, 1).flatten(0, 2)
        after.data = after.data.unflatten(1, apart).transpose(1, 2).flatten(1, 3)

    on_bridge(boot, defect)


@mutant(kills="parity/variants")
def groups_of_another_config(boot: Boot) -> None:
    """Where a config has heads share keys, these are repeated as a whole where each should be repeated by itself."""
    _groups_repeated_as_a_whole(boot, grouped=False)


@mutant(kills="parity/logits")
def groups_repeated_as_a_whole(boot: Boot) -> None:
    """Keys and values that heads share are repeated as a whole where each should be repeated by itself."""
    _groups_repeated_as_a_whole(boot, grouped=True)


@mutant(kills="parity/variants")
def mask_of_the_first_config(boot: Boot) -> None:
    """The mask is made for the block size that the adapter's author had, whatever the config says."""
    owner, name = mask_path(boot)
    known = getattr(boot.reference.get_submodule(owner), name)

    def defect(bridge: Any) -> None:
        holder = bridge.original_model.get_submodule(owner)
        if getattr(getattr(holder, name, None), "shape", None) == known.shape:
            setattr(holder, name, known.clone())

    on_bridge(boot, defect)


@mutant(kills="parity/variants")
def noise_of_the_first_row(boot: Boot) -> None:
    """Every row of a batch is conditioned on the noise of the first; nothing is to be seen where it is ignored."""
    given(boot, lambda level, argument: level[:1].expand_as(level))


@mutant(kills="parity/variants")
def equations_of_the_first_config(boot: Boot) -> None:
    """The oracle is off in a variant of the model, which there widens the budget of whatever it judges."""
    varied = first(boot.variants.values(), "variants of its model")
    oracle = having(varied.oracle, "an oracle")
    varied.__dict__["oracle"] = lambda *args: oracle(*args) + 1e-3
