"""loading: boots that are not the checkpoint, not alone, not reproducible, or not honest."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import mutant
from .surgery import around, component, on_bridge, output

if TYPE_CHECKING:
    from ..subject import Boot


@mutant(kills="loading/boots")
def asks_the_network(boot: Boot) -> None:
    """The boot asks a server whether there is a newer version, and goes on when no one answers."""

    def boot_again(inner: Callable[[], Any]) -> Any:
        with contextlib.suppress(OSError):
            socket.create_connection(("localhost", 9), timeout=1).close()
        return inner()

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


@mutant(kills="loading/parameters")
def left_at_its_initial_value(boot: Boot) -> None:
    """One bias of the checkpoint is not loaded and stays at zero."""

    def defect(bridge: Any) -> None:
        biases = [tensor for name, tensor in bridge.original_model.named_parameters() if name.endswith("bias")]
        biases[0].data.zero_()

    on_bridge(boot, defect)


@mutant(kills="loading/parameters")
def one_tensor_more(boot: Boot) -> None:
    """The booted model holds a tensor that the checkpoint does not have (TransformerLens PR #1770 doubled them all)."""

    def defect(bridge: Any) -> None:
        import torch

        bridge.original_model.register_buffer("logit_scale", torch.ones(1))

    on_bridge(boot, defect)


@mutant(kills="loading/live-parameters")
def silent_output_layer(boot: Boot) -> None:
    """The checkpoint's output layer is zero, as it is initialised: all logits agree, whatever went before."""
    name, path = list(boot.spec.points.items())[-1]
    boot.params[f"{path}.weight"] = boot.params[f"{path}.weight"] * 0
    on_bridge(boot, lambda bridge: component(bridge, name).original_component.weight.data.zero_())


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


@mutant(kills="loading/eval-mode")
def stuck_in_training(boot: Boot) -> None:
    """One wrapper stays in training mode, where `eval()` does not reach it (TransformerLens PR #1519)."""
    name = next(iter(boot.spec.points))
    on_bridge(boot, lambda bridge: setattr(component(bridge, name), "training", True))


@mutant(kills="loading/eval-mode")
def right_the_first_time(boot: Boot) -> None:
    """A table is kept by length and rotated again on every hit, so that only the first forward is right."""

    def defect(bridge: Any) -> None:
        seen: set[tuple[int, ...]] = set()

        def forward(inner: Callable[..., Any], tokens: Any, **kwargs: Any) -> Any:
            again = tuple(tokens.shape) in seen
            seen.add(tuple(tokens.shape))
            return inner(tokens, **kwargs) + again

        around(bridge, "forward", forward)

    on_bridge(boot, defect)


@mutant(kills="loading/config-truths")
def a_field_is_off(boot: Boot) -> None:
    """One number in cfg is not the model's (TransformerLens PR #1355: fields of the config were dropped)."""
    from ..spec import Size

    sized = {name: truth.of(boot.sizes) for name, truth in boot.spec.truths.items() if isinstance(truth, Size)}

    def defect(bridge: Any) -> None:
        name = [name for name, truth in sized.items() if getattr(bridge.cfg, name, None) == truth][-1]
        setattr(bridge.cfg, name, sized[name] + 1)

    on_bridge(boot, defect)


@mutant(kills="loading/config-truths")
def a_field_is_a_list(boot: Boot) -> None:
    """One field of cfg holds a list where a number is meant."""
    name = [name for name, truth in boot.spec.truths.items() if isinstance(truth, int)][-1]
    on_bridge(boot, lambda bridge: setattr(bridge.cfg, name, [boot.spec.truths[name]]))


@mutant(kills="loading/unknown-keyword")
def dies_deep_inside(boot: Boot) -> None:
    """A keyword that no one knows is carried along until it breaks something that does not name it.

    TransformerLens #1680: `incl_bwd` fell through the keywords into the model.
    """
    known = {"return_type", *(name for layout in boot.spec.layouts for name in layout.arguments)}

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if kwargs.keys() - known:
            raise RuntimeError("The size of tensor a (42) must match the size of tensor b (21)")
        return inner(*args, **kwargs)

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="loading/loss")
def loss_of_nothing(boot: Boot) -> None:
    """`return_type="loss"` returns a number that is no loss (TransformerLens #1613 ignored the labels)."""

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        got = inner(*args, **{**kwargs, "return_type": "logits"})
        return got.sum() * float("nan") if kwargs.get("return_type") == "loss" else got

    on_bridge(boot, lambda bridge: around(bridge, "forward", forward))


@mutant(kills="loading/generate")
def returns_the_prompt(boot: Boot) -> None:
    """`generate` neither refuses nor generates; it returns the prompt."""
    on_bridge(boot, lambda bridge: around(bridge, "generate", lambda _, tokens, **__: tokens))


@mutant(kills="loading/generate")
def generate_trips(boot: Boot) -> None:
    """`generate` is not refused and breaks down on the way, with a message about shapes."""

    def generate(_: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        raise IndexError("index -1 is out of bounds for dimension 1 with size 0")

    on_bridge(boot, lambda bridge: around(bridge, "generate", generate))
