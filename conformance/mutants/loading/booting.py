"""Boots that are not alone, or not the same every time."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, component, on_bridge, output

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/boots")
def asks_the_network(boot: Boot) -> None:
    """The boot asks a server whether there is a newer version, and goes on when no one answers."""

    def boot_again(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(OSError):
            socket.create_connection(("localhost", 9), timeout=1).close()
        return inner(*args, **kwargs)

    around(boot, "boot_again", boot_again)


@mutant(kills="loading/independence")
def judged_by_itself(boot: Boot) -> None:
    """The reference is the model that the bridge wraps, so that every comparison holds by construction."""

    def defect(bridge: Any) -> None:
        boot.__dict__["reference"] = bridge.original_model

    on_bridge(boot, defect)


@mutant(kills="loading/independence")
def shares_a_weight(boot: Boot) -> None:
    """One weight of the reference is the bridge's own memory: scaling it on one side scales both."""
    name, path = list(boot.spec.points.items())[-1]

    def defect(bridge: Any) -> None:
        boot.reference.get_submodule(path).weight.data = component(bridge, name).original_component.weight.data

    on_bridge(boot, defect)


@mutant(kills="loading/independence")
def shares_the_mask(boot: Boot) -> None:
    """The mask, a plain attribute and no buffer, is one tensor on both sides: a wrong one is wrong twice."""
    mask = next(layout.mask for layout in boot.spec.layouts if layout.mask is not None)
    owner, _, name = mask.path.rpartition(".")

    def defect(bridge: Any) -> None:
        setattr(boot.reference.get_submodule(owner), name, getattr(bridge.original_model.get_submodule(owner), name))

    on_bridge(boot, defect)


@mutant(kills="loading/independence")
def same_class(boot: Boot) -> None:
    """The reference is a new instance of the bridge's class, with every patch that the adapter made to it.

    TransformerLens's remote-code shims patch classes; the copy that is patched need not be the one that runs.
    """

    def defect(bridge: Any) -> None:
        twin = type(bridge.original_model)(bridge.original_model.config)
        twin.load_state_dict(boot.params)
        boot.__dict__["reference"] = twin.eval()

    on_bridge(boot, defect)


@mutant(kills="loading/independence")
def uninitialised_reference(boot: Boot) -> None:
    """The reference holds a table that no file fills, so that it is another model at every construction.

    InternLM2's and GIDD's rotary tables were such, under loading on the meta device.
    """
    import torch

    boot.reference.register_buffer("table", torch.rand(8), persistent=False)


@mutant(kills="loading/runs")
def loses_a_position(boot: Boot) -> None:
    """The last position is cut off the logits, as next-token code does before it takes a loss."""
    on_bridge(boot, lambda bridge: output(bridge, lambda logits: logits[:, :-1]))


@mutant(kills="loading/runs")
def bans_a_token(boot: Boot) -> None:
    """The mask token is banned inside the forward, which returns -inf where raw logits are promised."""
    last = boot.sizes["d_vocab"] - 1

    def defect(bridge: Any) -> None:
        import torch

        output(bridge, lambda logits: logits.index_fill(-1, torch.tensor([last]), -torch.inf))

    on_bridge(boot, defect)


@mutant(kills="loading/two-boots")
def patched_twice(boot: Boot) -> None:
    """A patch is applied again at every boot and scales the logits once more (TransformerLens PR #1770)."""
    boots: list[Any] = []

    def defect(bridge: Any) -> None:
        scale = 1.01 ** len(boots)
        boots.append(bridge)
        output(bridge, lambda logits: scale * logits)

    on_bridge(boot, defect)


@mutant(kills="loading/two-boots")
def boots_once(boot: Boot) -> None:
    """The second boot in one process fails on what the first left behind."""
    boots: list[Any] = []

    def defect(bridge: Any) -> None:
        if boots:
            raise RuntimeError("this class is patched already")
        boots.append(bridge)

    on_bridge(boot, defect)
