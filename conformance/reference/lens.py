"""A cache that reads the stream as the model does: last norm, its modulation by the noise level, unembedding."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.tools.analysis import logit_lens
from transformer_lens.utilities.slice import Slice


class DiffusionCache(ActivationCache):
    """An ActivationCache whose logit lens knows the adapter's `final_modulation`.

    These are the hooks of shift and scale, `batch d_model`, that stand between `ln_final` and `unembed`; none, if
    nothing does.
    """

    def logit_lens(self, **kwargs: Any) -> Any:
        """The logit lens over this cache; arguments as upstream's.

        Mends: it was refused wherever something stands between the last norm and the unembedding, also where the cache
        holds all that is needed to read through it.
        """
        model: Any = self.model
        names = getattr(model.adapter, "final_modulation", ())
        if not names or not kwargs.get("apply_ln", True):
            return super().logit_lens(**kwargs)
        if missing := [name for name in names if name not in self.cache_dict]:
            raise ValueError(f"logit_lens: the cache lacks {' and '.join(missing)}, which modulate the last norm")
        rows, lens = kwargs.get("batch_slice"), kwargs.get("lens")
        chosen = rows if isinstance(rows, Slice) else Slice(rows)
        shift, scale = (chosen.apply(self[name]) if self.has_batch_dim else self[name] for name in names)

        def read(entry: Tensor, index: int) -> Tensor:
            entry = entry if lens is None else lens(entry, index)
            normed: Tensor = model.ln_final(entry.reshape(1, -1, entry.shape[-1])).reshape(entry.shape)
            # One vector for all positions, where more than one is left.
            by, to = (each.unsqueeze(-2) if entry.ndim > each.ndim else each for each in (scale, shift))
            return normed * (1 + by) + to

        result = logit_lens(_Unembedding(model), cache=self, **{**kwargs, "apply_ln": False, "lens": read})
        result.readout.applied_ln = True
        return result


class _Unembedding:
    """A bridge as upstream's lens shall see it: with nothing on the way from the norm to the unembedding."""

    def __init__(self, bridge: Any) -> None:
        self._bridge = bridge
        self._modules = {"blocks": bridge.blocks}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)
