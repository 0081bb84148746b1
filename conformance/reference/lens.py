"""A cache that reads the stream as the model does: gates, modulated norms, unembedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.utilities.slice import Slice


class DiffusionCache(ActivationCache):
    """An ActivationCache that knows the adapter's `gates`, `modulations` and `final_modulation`.

    These are hooks `batch d_model`: what multiplies each branch on its way into the stream, and shift and scale between
    a norm and what reads it; none, if nothing does. Upstream leaves them out, and the weight of the norm too, which
    compatibility mode would have folded into what reads it.
    """

    def logit_lens(self, **kwargs: Any) -> Any:
        """The logit lens over this cache; arguments as upstream's.

        Mends: it was refused wherever something stands between the last norm and the unembedding, also where the cache
        holds all that is needed to read through it.
        """
        model: Any = self.model
        if not self._modulation_names(model.cfg.n_layers) or not kwargs.get("apply_ln", True):
            return super().logit_lens(**kwargs)
        # Not above: before 4.2 there is none, and all else works.
        from transformer_lens.tools.analysis import logit_lens

        rows, lens = kwargs.get("batch_slice"), kwargs.get("lens")
        shift, scale = self._modulation(model.cfg.n_layers, False, rows, "logit_lens")

        def read(entry: Tensor, index: int) -> Tensor:
            entry = entry if lens is None else lens(entry, index)
            normed: Tensor = model.ln_final(entry.reshape(1, -1, entry.shape[-1])).reshape(entry.shape)
            return normed * (1 + _along(scale, entry.ndim)) + _along(shift, entry.ndim)

        result = logit_lens(_Unembedding(model), cache=self, **{**kwargs, "apply_ln": False, "lens": read})
        result.readout.applied_ln = True
        return result

    def apply_ln_to_stack(
        self,
        residual_stack: Tensor,
        layer: int | None = None,
        mlp_input: bool = False,
        pos_slice: Any = None,
        batch_slice: Any = None,
        has_batch_dim: bool = True,
        recompute_ln: bool = False,
    ) -> Tensor:
        """What each part of the stream gives to the input of a layer; arguments as upstream's.

        Mends: the weight and the scale after the norm were left out. The shift is no part's; only where every entry is
        normed by itself, with `recompute_ln`, it is added.
        """
        last: int = self.model.cfg.n_layers
        layer = last if layer is None or layer == -1 else layer
        options = (mlp_input, pos_slice, batch_slice, has_batch_dim, recompute_ln)
        stack: Tensor = super().apply_ln_to_stack(residual_stack, layer, *options)
        whole = recompute_ln and layer == last
        model: Any = self.model
        if not whole:
            norm = model.ln_final if layer == last else getattr(model.blocks[layer], "ln2" if mlp_input else "ln1")
            stack = stack * norm.weight
        if not self._modulation_names(layer, mlp_input):
            return stack
        shift, scale = self._modulation(layer, mlp_input, batch_slice, "apply_ln_to_stack")
        stack = stack * (1 + _along(scale, stack.ndim - 1))
        return stack + _along(shift, stack.ndim - 1) if whole else stack

    def stack_head_results(
        self,
        layer: int | None = -1,
        return_labels: bool = False,
        incl_remainder: bool = False,
        pos_slice: Any = None,
        apply_ln: bool = False,
    ) -> Any:
        """What each head puts into the stream; arguments as upstream's. Mends: its gate was left out."""
        model: Any = self.model
        layer = model.cfg.n_layers if layer is None or layer == -1 else layer
        assert layer is not None
        if "attn" not in getattr(model.adapter, "gates", {}):
            return super().stack_head_results(layer, return_labels, incl_remainder, pos_slice, apply_ln)
        positions, count = pos_slice if isinstance(pos_slice, Slice) else Slice(pos_slice), model.cfg.n_heads
        heads, labels = super().stack_head_results(layer, return_labels=True, pos_slice=positions)
        gated = [part * self._gate_along("attn", i // count, part.ndim) for i, part in enumerate(heads)]
        stack: Tensor = torch.stack(gated) if gated else heads
        if incl_remainder:
            stream = positions.apply(self["resid_pre", 0] if layer == 0 else self["resid_post", layer - 1], dim=-2)
            stack, labels = torch.cat((stack, (stream - stack.sum(dim=0))[None])), [*labels, "remainder"]
        if apply_ln:
            stack = self.apply_ln_to_stack(stack, layer, pos_slice=positions, has_batch_dim=self.has_batch_dim)
        return (stack, labels) if return_labels else stack

    def get_neuron_results(
        self,
        layer: int,
        neuron_slice: Any = None,
        pos_slice: Any = None,
        project_output_onto: Tensor | None = None,
    ) -> Tensor:
        """What each neuron puts into the stream; arguments as upstream's. Mends: its gate was left out."""
        gate = self._gate("mlp", layer)
        if gate is None:
            return super().get_neuron_results(layer, neuron_slice, pos_slice, project_output_onto)
        results: Tensor = super().get_neuron_results(layer, neuron_slice, pos_slice)
        results = results * _along(gate[..., None, :], results.ndim)
        return results if project_output_onto is None else results @ project_output_onto

    def _stack_neuron_results_apply_ln_projected(
        self, layer: int, pos_slice: Slice, neuron_slice: Slice, project_2d: Tensor, mlp_input: bool = False
    ) -> Tensor:
        # Upstream's short cut knows neither gates nor what stands behind a norm.
        stack: Any = self.stack_neuron_results(layer, pos_slice, neuron_slice)
        return self.apply_ln_to_stack(stack, layer, mlp_input, pos_slice) @ project_2d

    def get_full_resid_decomposition(
        self,
        layer: int | None = None,
        mlp_input: bool = False,
        expand_neurons: bool = True,
        apply_ln: bool = False,
        pos_slice: Any = None,
        return_labels: bool = False,
        project_output_onto: Tensor | None = None,
    ) -> Any:
        """Heads, neurons or MLPs, embedding and biases, which sum to the stream; arguments as upstream's.

        Mends: heads, neurons and biases were counted without their gates.
        """
        model: Any = self.model
        layer = model.cfg.n_layers if layer is None or layer == -1 else layer
        assert layer is not None
        if not getattr(model.adapter, "gates", {}):
            options = (expand_neurons, apply_ln, pos_slice, return_labels, project_output_onto)
            return super().get_full_resid_decomposition(layer, mlp_input, *options)
        positions = pos_slice if isinstance(pos_slice, Slice) else Slice(pos_slice)
        embed = positions.apply(self["hook_embed"], dim=-2)
        heads, labels = self.stack_head_results(layer + mlp_input, pos_slice=positions, return_labels=True)
        stack = [heads]
        bias = torch.zeros_like(embed)
        if expand_neurons and layer:
            neurons, names = self.stack_neuron_results(layer, positions, return_labels=True)
            stack, labels = [*stack, neurons], [*labels, *names]
            for index in range(layer):
                block = model.blocks[index]
                bias = bias + self._gate_along("mlp", index, embed.ndim) * block.mlp.b_out
        elif layer:
            mlps, names = self.decompose_resid(
                layer, mlp_input, mode="mlp", incl_embeds=False, pos_slice=positions, return_labels=True
            )
            stack, labels = [*stack, mlps], [*labels, *names]
        whole = torch.cat([*stack, embed[None], bias[None]])
        if apply_ln:
            whole = self.apply_ln_to_stack(whole, layer, mlp_input, positions, has_batch_dim=self.has_batch_dim)
        whole = whole if project_output_onto is None else whole @ project_output_onto
        return (whole, [*labels, "embed", "bias"]) if return_labels else whole

    def _modulation_names(self, layer: int, mlp_input: bool = False) -> tuple[str, ...]:
        """The hooks of shift and scale behind a norm, that of a layer or the last."""
        model: Any = self.model
        if layer == model.cfg.n_layers:
            names: tuple[str, ...] = getattr(model.adapter, "final_modulation", ())
        else:
            names = getattr(model.adapter, "modulations", {}).get("mlp" if mlp_input else "attn", ())
        return tuple(name.format(layer=layer) for name in names)

    def _modulation(self, layer: int, mlp_input: bool, rows: Any, what: str) -> tuple[Tensor, Tensor]:
        """Shift and scale behind a norm, `batch d_model`, of some rows."""
        names = self._modulation_names(layer, mlp_input)
        if missing := [name for name in names if name not in self.cache_dict]:
            norm = "the last norm" if layer == self.model.cfg.n_layers else "the norm"
            raise ValueError(f"{what}: the cache lacks {' and '.join(missing)}, which modulate {norm}")
        chosen = rows if isinstance(rows, Slice) else Slice(rows)
        shift, scale = (chosen.apply(self[name]) if self.has_batch_dim else self[name] for name in names)
        return shift, scale

    def _gate(self, branch: str, layer: int) -> Tensor | None:
        """What multiplies a branch on its way into the stream, `batch d_model`."""
        model: Any = self.model
        name = getattr(model.adapter, "gates", {}).get(branch)
        return None if name is None else self[name.format(layer=layer)]

    def _gate_along(self, branch: str, layer: int, axes: int) -> Tensor:
        gate = self._gate(branch, layer)
        assert gate is not None
        return _along(gate, axes)


def _along(vector: Tensor, axes: int) -> Tensor:
    """One vector for all positions of a tensor of so many axes, where it has more than one."""
    return vector.unsqueeze(-2) if axes > vector.ndim else vector


class _Unembedding:
    """A bridge as upstream's lens shall see it: with nothing on the way from the norm to the unembedding."""

    def __init__(self, bridge: Any) -> None:
        self._bridge = bridge
        self._modules = {"blocks": bridge.blocks}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)
