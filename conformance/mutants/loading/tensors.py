"""Models that are not the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, component, first, on_boots_by_path, on_bridge, output, output_layer

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/parameters")
def left_at_its_initial_value(boot: Boot) -> None:
    """One bias of the checkpoint is not loaded and stays at zero."""

    first((name for name in boot.params if name.endswith("bias")), "a bias")

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


@mutant(kills="loading/parameters")
def tied_as_they_are_equal(boot: Boot) -> None:
    """Two norms that are equal in the file share one memory in the model: an edit of one is an edit of both."""
    from ... import components

    norms: dict[tuple[int, ...], list[str]] = {}
    for name, tensor in boot.params.items():
        norms.setdefault(tuple(tensor.shape), []).append(name)
    one, other = next(names for shape, names in norms.items() if len(shape) == 1 and len(names) > 1)[:2]
    boot.params[other] = boot.params[one].clone()

    def boot_again(inner: Callable[..., Any], hf_model: Any = None, **kwargs: Any) -> Any:
        bridge = inner(hf_model, **kwargs)
        names = {components.own_name(name): name for name, _ in bridge.original_model.named_parameters()}
        if hf_model is None:
            owner, _, leaf = names[other].rpartition(".")
            kept = bridge.original_model.get_parameter(names[one])
            setattr(bridge.original_model.get_submodule(owner), leaf, kept)
        return bridge

    around(boot, "boot_again", boot_again)


@mutant(kills="loading/live-parameters")
def silent_output_layer(boot: Boot) -> None:
    """The checkpoint's output layer is zero, as it is initialised: all logits agree, whatever went before."""
    name, path = output_layer(boot)
    boot.params[f"{path}.weight"] = boot.params[f"{path}.weight"] * 0
    on_boots_by_path(boot, lambda bridge: component(bridge, name).original_component.weight.data.zero_(), ("dtype",))


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


@mutant(kills="loading/eval-mode")
def dropout_left_on(boot: Boot) -> None:
    """A tenth of the logits is dropped, as by a layer that nobody has switched to evaluation."""
    from torch.nn.functional import dropout

    on_bridge(boot, lambda bridge: output(bridge, lambda logits: dropout(logits, 0.1, training=True)))
