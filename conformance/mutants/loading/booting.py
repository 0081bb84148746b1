"""Boots that are not alone, or not the same every time."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, component, mask_path, on_boots_by_path, on_bridge, on_this_model, output, output_layer

if TYPE_CHECKING:
    from torch import Tensor

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
        boot.__dict__.setdefault("reference", bridge.original_model)

    on_bridge(boot, defect)


@mutant(kills="loading/independence")
def shares_a_weight(boot: Boot) -> None:
    """One weight of the reference is the bridge's own memory: scaling it on one side scales both."""
    name, path = output_layer(boot)

    def defect(bridge: Any) -> None:
        boot.reference.get_submodule(path).weight.data = component(bridge, name).original_component.weight.data

    on_bridge(boot, defect)


@mutant(kills="loading/independence")
def shares_the_mask(boot: Boot) -> None:
    """The mask, a plain attribute and no buffer, is one tensor on both sides: a wrong one is wrong twice."""
    owner, name = mask_path(boot)

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

    table = torch.rand(8)
    boot.reference.register_buffer("table", table, persistent=False)
    # The bridge holds the same by chance, or on purpose.
    on_bridge(boot, lambda bridge: bridge.original_model.register_buffer("table", table.clone(), persistent=False))


@mutant(kills="loading/runs")
def loses_a_position(boot: Boot) -> None:
    """The last position is cut off the logits in fp32, as next-token code does before it takes a loss."""
    on_this_model(boot, lambda bridge: output(bridge, lambda logits: logits[:, :-1] if _single(logits) else logits))


@mutant(kills="loading/runs")
def bans_a_token(boot: Boot) -> None:
    """The mask token is banned inside a forward in fp32, which returns -inf where raw logits are promised."""
    last = boot.sizes["d_vocab"] - 1

    def banned(logits: Tensor) -> Tensor:
        import torch

        return logits.index_fill(-1, torch.tensor([last]), -torch.inf) if _single(logits) else logits

    on_this_model(boot, lambda bridge: output(bridge, banned))


def _single(logits: Tensor) -> bool:
    """Whether a forward is one in fp32: a path for other dtypes is another one."""
    return logits.dtype.itemsize == 4


@mutant(kills="loading/two-boots")
def patched_twice(boot: Boot) -> None:
    """A patch is applied again at every load and shifts the logits once more (TransformerLens PR #1770 scaled them)."""
    boots: list[Any] = []

    def defect(bridge: Any) -> None:
        shift = len(boots) / 100
        boots.append(bridge)
        output(bridge, lambda logits: logits + shift)

    on_boots_by_path(boot, defect)


@mutant(kills="loading/two-boots")
def boots_once(boot: Boot) -> None:
    """The second boot of a model in one process fails on what the first left behind, and takes that away."""
    boots: list[Any] = []

    def defect(bridge: Any) -> None:
        boots.append(bridge)
        if len(boots) == 2:
            raise RuntimeError("this class is patched already")

    on_boots_by_path(boot, defect)


@mutant(kills="loading/two-boots")
def table_of_another_boot(boot: Boot) -> None:
    """A table that is a plain attribute holds, from the second boot on, whatever the memory held."""
    import torch

    boots: list[Any] = []

    def boot_again(inner: Callable[..., Any], hf_model: Any = None, **kwargs: Any) -> Any:
        bridge = inner(hf_model, **kwargs)
        loaded = len(boots) if hf_model is None else 0
        bridge.original_model.scratch = torch.full((8,), float(loaded))
        boots.append(bridge)
        return bridge

    # The class builds it, so the reference has it too.
    boot.reference.scratch = torch.zeros(8)
    around(boot, "boot_again", boot_again)


@mutant(kills="loading/around-a-model")
def refuses_a_given_model(boot: Boot) -> None:
    """A model that one has built is refused, because the config is looked for where it was not loaded from."""

    def defect(bridge: Any, model: Any) -> Any:
        raise OSError("no config.json beside this model")

    _around_a_model(boot, defect)


@mutant(kills="loading/around-a-model")
def wraps_a_copy(boot: Boot) -> None:
    """The model that was handed in is copied first: the user edits weights that the bridge never sees."""

    def defect(bridge: Any, model: Any) -> Any:
        return boot.boot_again()

    _around_a_model(boot, defect)


@mutant(kills="loading/around-a-model")
def copies_a_parameter(boot: Boot) -> None:
    """One parameter of the model that was handed in is replaced by a copy, as a conversion of weights leaves it."""
    from torch import nn

    def defect(bridge: Any, model: Any) -> Any:
        *_, (owner, name) = ((m, n) for m in model.modules() for n, _ in m.named_parameters(recurse=False))
        setattr(owner, name, nn.Parameter(getattr(owner, name).detach().clone()))
        return bridge

    _around_a_model(boot, defect)


@mutant(kills="loading/around-a-model")
def prepared_only_when_loaded(boot: Boot) -> None:
    """A table is mended only in a model that the boot loads itself (TransformerLens left such models their kernels)."""
    owner, name = mask_path(boot)

    def defect(bridge: Any, model: Any) -> Any:
        held = getattr(model.get_submodule(owner), name)
        setattr(model.get_submodule(owner), name, held | True)
        return bridge

    _around_a_model(boot, defect)


@mutant(kills="loading/side-by-side")
def table_of_the_last(boot: Boot) -> None:
    """A table is kept on the class and renewed after a forward: the next model reads that of a longer one."""
    kept = [0]

    def defect(bridge: Any) -> None:
        def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
            before, kept[0] = kept[0], tokens.shape[-1]
            logits = inner(tokens, **kwargs)
            return logits * 1.01 if before > longest else logits

        around(bridge, "forward", forward)

    longest = max(layout.length(boot.sizes) for layout in boot.spec.layouts)
    on_bridge(boot, defect)


@mutant(kills="loading/side-by-side")
def table_of_the_first(boot: Boot) -> None:
    """A table is kept on the class as long as the first model needs it; a longer one reads its last entry again."""
    longest = max(layout.length(boot.sizes) for layout in boot.spec.layouts)

    def defect(bridge: Any) -> None:
        def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
            logits = inner(tokens, **kwargs)
            return logits * 1.01 if tokens.shape[-1] > longest else logits

        around(bridge, "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="loading/side-by-side")
def boots_one_config(boot: Boot) -> None:
    """A second config of one class cannot be booted: what was registered for the first is in its way."""
    size = "n" if "n" in boot.sizes else "layers"

    def defect(bridge: Any) -> None:
        if getattr(bridge.original_model.config, boot.spec.sizes[size]) > boot.sizes[size]:
            raise ValueError("this class is registered with another config")

    on_bridge(boot, defect)


def _around_a_model(boot: Boot, defect: Callable[[Any, Any], Any]) -> None:
    """Let `defect(bridge, model)` answer for a boot around a model."""

    def boot_again(inner: Callable[..., Any], hf_model: Any = None, **kwargs: Any) -> Any:
        bridge = inner(hf_model, **kwargs)
        return bridge if hf_model is None else defect(bridge, hf_model)

    around(boot, "boot_again", boot_again)
