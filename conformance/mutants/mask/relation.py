"""mask: cells that are wrong where no one looks, masks that are not used, and ways around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, component, masked, on_bridge, output_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ...layout import Layout, MaskTensor
    from ...subject import Boot

Change = Callable[["Tensor", "Tensor"], "Tensor"]
"""`change(held, tokens)`: the mask that a forward uses instead of the one that is held."""

OUTLIER = 1.15
"""How far, over the largest entry of an ordinary stream in standard deviations, an outlier lies."""

LARGE = 8
"""Rows that a batch of the suite has at most, where it does not look at one position a row."""


@mutant(kills="mask/relation-tensor")
def not_even_itself(boot: Boot) -> None:
    """The mask that is held lacks its diagonal, a `<` for a `<=`; in every forward it is filled in."""

    def defect(bridge: Any) -> None:
        owner, name = holder(bridge, masked(boot))
        setattr(owner, name, getattr(owner, name).clone().fill_diagonal_(False))
        while_running(bridge, masked(boot), lambda held, tokens: held.clone().fill_diagonal_(True))

    at_own_size(boot, defect)


@mutant(kills="mask/relation-tensor")
def left_on_meta(boot: Boot) -> None:
    """The mask, no buffer, stays on the meta device when the model is loaded, and is made anew in every forward."""

    def defect(bridge: Any) -> None:
        owner, name = holder(bridge, masked(boot))
        good = getattr(owner, name)
        while_running(bridge, masked(boot), lambda held, tokens: good if held.is_meta else held)
        setattr(owner, name, good.to("meta"))

    at_own_size(boot, defect)


@mutant(kills="mask/relation-tensor")
def cut_to_the_prompt(boot: Boot) -> None:
    """Of the mask that is held, the last row is empty; only a stream of full length needs it, and makes its own."""

    def defect(bridge: Any) -> None:
        owner, name = holder(bridge, masked(boot))
        good = getattr(owner, name)
        cut = good.clone()
        cut[-1] = False
        while_running(bridge, masked(boot), lambda held, tokens: good if held is cut else held)
        setattr(owner, name, cut)

    at_own_size(boot, defect)


@mutant(kills="mask/relation")
def one_pair_less(boot: Boot) -> None:
    """A fast path without gradients lacks one pair of the mask that is held; over two layers there is a way round."""

    def change(held: Tensor, tokens: Tensor) -> Tensor:
        return without(held, *_roundabout(held)) if _fast(boot, tokens) else held

    at_own_size(boot, lambda bridge: while_running(bridge, masked(boot), change))


@mutant(kills="mask/relation")
def one_that_does_not_see_itself(boot: Boot) -> None:
    """A fast path without gradients hides the last position from itself; the residual connection covers it up."""

    def change(held: Tensor, tokens: Tensor) -> Tensor:
        return without(held, -1, -1) if _fast(boot, tokens) else held

    at_own_size(boot, lambda bridge: while_running(bridge, masked(boot), change))


@mutant(kills="mask/closure")
def quantised_between_layers(boot: Boot) -> None:
    """Between two layers a stream with an outlier is quantised, in steps that its largest entry sets for everyone."""
    hook = boot.spec.streams[0].replace("{layer}", str(boot.layers - 1))
    last, _, _ = hook.rpartition(".")
    good = [pair.observed.joined(pair.canonical(hook)) for pair in boot.afresh().pairs.values()]
    usual = max(float(stream.abs().max() / stream.std()) for stream in good)

    def quantised(inner: Callable[..., Any], stream: Tensor, *args: Any, **kwargs: Any) -> Any:
        return inner(_quantised(stream, OUTLIER * usual), *args, **kwargs)

    on_bridge(boot, lambda bridge: around(component(bridge, last), "forward", quantised))


@mutant(kills="mask/closure")
def pooled_before_the_logits(boot: Boot) -> None:
    """In large batches a fast path without gradients gives the output a mean over the stream, past any mask."""
    last, _ = output_layer(boot)

    def pooled(inner: Callable[..., Any], stream: Tensor, *args: Any, **kwargs: Any) -> Any:
        import torch

        fast = len(stream) > LARGE and not torch.is_grad_enabled()
        return inner(stream + stream.mean(dim=1, keepdim=True) if fast else stream, *args, **kwargs)

    on_bridge(boot, lambda bridge: around(component(bridge, last), "forward", pooled))


@mutant(kills="mask/gradient")
def recomputed_with_less(boot: Boot) -> None:
    """With gradients, where activations are recomputed, the mask lacks one pair; over two layers there is a way round.

    Without them the mask is right.
    """

    def change(held: Tensor, tokens: Tensor) -> Tensor:
        import torch

        return without(held, *_roundabout(held)) if torch.is_grad_enabled() else held

    at_own_size(boot, lambda bridge: while_running(bridge, masked(boot), change))


@mutant(kills="mask/gradient")
def backward_over_positions(boot: Boot) -> None:
    """What attention adds is right, and its backward sums over positions, as where a broadcast is reduced too far."""
    leaking(boot, boot.spec.branches[0].raw.replace("{layer}", "0"))


@mutant(kills="mask/gradient")
def backward_over_positions_between_layers(boot: Boot) -> None:
    """The same between two layers: every layer by itself is right."""
    leaking(boot, boot.spec.streams[0].replace("{layer}", str(boot.layers - 1)))


def leaking(boot: Boot, hook: str) -> None:
    """The gradient at the input of a hook's component reaches every position of it."""

    def forward(inner: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if tensor.requires_grad:
            tensor = tensor.view_as(tensor)
            tensor.register_hook(lambda gradient: gradient + gradient.mean(dim=1, keepdim=True))
        return inner(tensor, *args, **kwargs)

    on_bridge(boot, lambda bridge: around(component(bridge, hook.rpartition(".")[0]), "forward", forward))


def holder(bridge: Any, layout: Layout) -> tuple[Any, str]:
    """Whose attribute the mask is, and which."""
    mask: MaskTensor | None = layout.mask
    assert mask is not None
    owner, _, name = mask.path.rpartition(".")
    return bridge.original_model.get_submodule(owner), name


def at_own_size(boot: Boot, defect: Callable[[Any], None]) -> None:
    """Put a defect into bridges of the boot's own sizes and variant, and into no others."""

    def amend(bridge: Any) -> None:
        config = bridge.original_model.config
        varied = {field: boot.config.get(field) for variant in boot.spec.variants.values() for field in variant.fields}
        own = {**varied, **{field: boot.sizes[size] for size, field in boot.spec.sizes.items()}}
        if all(getattr(config, field, None) == value for field, value in own.items()):
            defect(bridge)

    on_bridge(boot, amend)


def while_running(bridge: Any, layout: Layout, change: Change) -> None:
    """Use another mask in forwards than the one that is held in between."""
    owner, name = holder(bridge, layout)

    def forward(inner: Callable[..., Any], tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        held = getattr(owner, name)
        setattr(owner, name, change(held, tokens))
        try:
            return inner(tokens, *args, **kwargs)
        finally:
            setattr(owner, name, held)

    around(bridge, "forward", forward)


def without(mask: Tensor, query: int, key: int) -> Tensor:
    """A mask that lacks one pair."""
    less = mask.clone()
    less[query, key] = False
    return less


def _fast(boot: Boot, tokens: Tensor) -> bool:
    """Whether a forward takes the fast path: in the first masked layout, without gradients."""
    import torch

    return not torch.is_grad_enabled() and tokens.shape[1] == masked(boot).length(boot.sizes)


def _roundabout(allowed: Tensor) -> tuple[int, int]:
    """A pair that may attend, and may as well do so by way of a third position."""
    step = allowed.float().fill_diagonal_(0.0)
    query, key = (allowed & ((step @ step) > 0) & (step > 0)).nonzero()[-1].tolist()
    return query, key


def _quantised(stream: Tensor, outlier: float) -> Tensor:
    """Rows with an outlier in 8 bits, as LLM.int8 (arXiv 2208.07339) would not do it."""
    largest = stream.abs().amax(dim=(1, 2), keepdim=True)
    step = largest / 127
    return ((stream / step).round() * step).where(largest > outlier * stream.std(), stream)
