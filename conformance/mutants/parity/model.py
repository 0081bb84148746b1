"""Another model: parts that are permuted, left out, or taken for parts of another architecture.

Most of these are seen by many; each is declared for the requirement that has to see it whatever else is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ... import components
from .. import NoPlace, mutant
from ..surgery import around, component, first, having, on_bridge
from .conditioning import given

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...subject import Boot


def module(boot: Boot, bridge: Any, point: str, layer: int = 0) -> Any:
    """The remote module at a point of the spec."""
    path = having(boot.spec.points.get(point), point.replace("{layer}", "any"))
    return components.unwrapped(components.at(bridge.original_model, path.replace("{layer}", str(layer))))


def weight(boot: Boot, point: str, change: Callable[[Tensor], Tensor]) -> None:
    """Change the weight of the module at a point, in the first layer."""
    having(boot.spec.points.get(point), f"a module at {point}")

    def defect(bridge: Any) -> None:
        held = module(boot, bridge, point).weight
        held.data = change(held.data).contiguous()

    on_bridge(boot, defect)


def projections(boot: Boot) -> tuple[str, int]:
    """The point that makes queries, keys and values, and of how many of them it is the only one."""
    joint, apart = "blocks.{layer}.attn.qkv", "blocks.{layer}.attn.v"
    if joint in boot.spec.points:
        return joint, 3
    return (having(apart if apart in boot.spec.points else None, "a projection to values"), 1)


def heads(tensor: Tensor, width: int) -> Tensor:
    """Rows by head: `head width in`."""
    split: Tensor = tensor.unflatten(0, (-1, width))
    return split


def width_of(boot: Boot) -> int:
    """Channels of a head."""
    return boot.sizes["d_model"] // having(boot.sizes.get("heads"), "heads")


@mutant(kills="parity/logits")
def queries_for_keys(boot: Boot) -> None:
    """Queries and keys change places in the joint weight, as after another convention of their order."""
    if "blocks.{layer}.attn.qkv" in boot.spec.points:
        weight(boot, "blocks.{layer}.attn.qkv", lambda held: _reordered(held, (1, 0, 2)))
        return
    points = ("blocks.{layer}.attn.q", "blocks.{layer}.attn.k")
    paths = [boot.spec.points.get(point) for point in points]
    if None in paths:
        raise NoPlace("the adapter has not got projections to queries and keys")

    def defect(bridge: Any) -> None:
        q, k = (module(boot, bridge, point) for point in points)
        rows = min(len(q.weight), len(k.weight))
        kept = q.weight.data[:rows].clone()
        q.weight.data[:rows] = k.weight.data[:rows]
        k.weight.data[:rows] = kept

    on_bridge(boot, defect)


def _reordered(joint: Tensor, order: tuple[int, ...]) -> Tensor:
    import torch

    parts = joint.chunk(3)
    return torch.cat([parts[part] for part in order])


@mutant(kills="parity/logits")
def values_of_the_next_head(boot: Boot) -> None:
    """Every head reads the values of its neighbour, as where grouped heads are repeated in the wrong order."""
    point, parts = projections(boot)
    width = width_of(boot)
    if boot.sizes.get("groups", 2) == 1:
        raise NoPlace("all heads share their values")

    def change(held: Tensor) -> Tensor:
        import torch

        *rest, values = held.chunk(parts)
        return torch.cat([*rest, heads(values, width).roll(1, dims=0).flatten(0, 1)])

    weight(boot, point, change)


@mutant(kills="parity/logits")
def heads_and_channels_transposed(boot: Boot) -> None:
    """What attention puts out is read as `channel head` where it is `head channel`."""
    width = width_of(boot)
    weight(boot, "blocks.{layer}.attn.o", lambda held: heads(held.mT, width).transpose(0, 1).flatten(0, 1).mT)


@mutant(kills="parity/logits")
def one_head_dropped(boot: Boot) -> None:
    """The first head of a layer adds nothing, as where heads are counted from one."""
    width = width_of(boot)
    weight(boot, "blocks.{layer}.attn.o", lambda held: held.index_fill(1, _first(width), 0.0))


def _first(count: int) -> Tensor:
    import torch

    return torch.arange(count)


@mutant(kills="parity/logits")
def square_weight_transposed(boot: Boot) -> None:
    """A square weight is stored `in out` and read `out in`: no shape gives it away."""

    def change(held: Tensor) -> Tensor:
        if held.shape[0] != held.shape[1]:
            raise NoPlace("no square weight behind attention")
        return held.mT

    weight(boot, "blocks.{layer}.attn.o", change)


@mutant(kills="parity/logits")
def layers_in_another_order(boot: Boot) -> None:
    """The first two layers change places, as where names are sorted as text."""

    def defect(bridge: Any) -> None:
        one, other = (module(boot, bridge, "blocks.{layer}", layer) for layer in range(2))
        both = [dict(components.parameters(layer)) for layer in (one, other)]
        for name in both[0].keys() & both[1].keys():
            a, b = (held[name] for held in both)
            kept: Tensor = a.data.clone()
            a.data.copy_(b.data)
            b.data.copy_(kept)

    having(boot.spec.points.get("blocks.{layer}"), "layers")
    on_bridge(boot, defect)


@mutant(kills="parity/logits")
def another_activation(boot: Boot) -> None:
    """The activation is read from another field of the config, and all MLPs are rectified (TransformerLens #1661)."""
    kinds = ("GELU", "SiLU", "GELUActivation", "SiLUActivation", "GELUTanh", "NewGELUActivation")

    def acts(model: nn.Module) -> list[nn.Module]:
        return [part for part in model.modules() if type(part).__name__ in kinds]

    first(acts(boot.afresh().reference), "a module that is its activation")

    def defect(bridge: Any) -> None:
        for part in acts(bridge.original_model):
            around(part, "forward", lambda inner, tensor: tensor.relu())

    on_bridge(boot, defect)


@mutant(kills="parity/logits")
def norm_with_an_offset(boot: Boot) -> None:
    """The weight of a norm counts as an offset from one, as in Gemma."""
    weight(boot, "blocks.{layer}.ln1", lambda held: held + 1)


@mutant(kills="parity/logits")
def stream_in_low_precision(boot: Boot) -> None:
    """The stream goes through bfloat16 before the last norm."""
    point = having("ln_final" if "ln_final" in boot.spec.points else None, "a last norm")

    def rounded(inner: Callable[..., Any], stream: Tensor, *args: Any, **kwargs: Any) -> Any:
        import torch

        return inner(stream.to(torch.bfloat16).to(stream.dtype), *args, **kwargs)

    on_bridge(boot, lambda bridge: around(component(bridge, point), "forward", rounded))


@mutant(kills="parity/logits")
def modulation_in_another_order(boot: Boot) -> None:
    """Shift, scale and gate are cut from the modulation in another order."""
    weight(boot, "blocks.{layer}.adaln_modulation", lambda held: held.roll(boot.sizes["d_model"], dims=0))


@mutant(kills="parity/logits")
def branch_without_its_gate(boot: Boot) -> None:
    """What attention adds goes into the stream as it is: the gate counts as one."""
    from ...facts import Chunk

    gates = (branch.gate for branch in boot.spec.branches)
    gate = first((gate for gate in gates if not isinstance(gate, float)), "a gate on a branch")
    point = "blocks.{layer}.adaln_modulation"
    having(boot.spec.points.get(point), "a modulation of its layers")
    # Where gates have hooks of their own, the third of six parts is attention's.
    part, parts = (gate.index, gate.of) if isinstance(gate, Chunk) else (2, 6)

    def defect(bridge: Any) -> None:
        held = module(boot, bridge, point)
        rows = held.weight.data.chunk(parts)[part]
        rows.zero_()
        held.bias.data.chunk(parts)[part].fill_(1.0)

    on_bridge(boot, defect)


@mutant(kills="parity/logits")
def last_modulation_skipped(boot: Boot) -> None:
    """The last norm is not modulated: shift and scale are zero."""

    def defect(bridge: Any) -> None:
        held = module(boot, bridge, "adaln_final")
        held.weight.data.zero_()
        held.bias.data.zero_()

    having(boot.spec.points.get("adaln_final"), "a last modulation that the spec pairs")
    on_bridge(boot, defect)


@mutant(kills="parity/conditioning")
def noise_ignored(boot: Boot) -> None:
    """The model is told that there is no noise, whatever the caller says."""
    given(boot, lambda level, argument: level.clamp(max=argument.low))
