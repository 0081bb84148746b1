"""Boots that are another model in another process, or leave their own changed; this one is left as it is.

All but the first put their defect into the processes that the suite starts, by the name of a function.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import mutant

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/two-processes")
def order_of_a_set(boot: Boot) -> None:
    """The code walks through a set of names, whose order hangs on the hash seed: bridge and reference agree on it."""
    from ...rewriting import rewritten

    file, _, name = boot.config["auto_map"][boot.spec.auto_class].rpartition(".")
    marker = f"class {name}("
    tail = f"""
_plain_forward = {name}.forward
_scale = 1 + list({{"query", "key", "value", "gate", "up", "down", "out"}}).index("gate") / 100


def _forward(self, *args, **kwargs):
    found = _plain_forward(self, *args, **kwargs)
    if isinstance(found, torch.Tensor):
        return found * _scale
    found.logits = found.logits * _scale
    return found


_forward.__signature__ = __import__("inspect").signature(_plain_forward)
{name}.forward = _forward
"""
    scratch = tempfile.mkdtemp(prefix="conformance-mutant-")
    weakref.finalize(boot, shutil.rmtree, scratch, ignore_errors=True)
    boot.folder = rewritten(
        boot.folder, Path(scratch) / file, lambda text: text + tail if f"\n{marker}" in text else text
    )


@mutant(kills="loading/two-processes")
def fresh_table(boot: Boot) -> None:
    """A table is made with `torch.empty` and never filled; in this process the memory happens to be the same."""
    _elsewhere(boot, _adds_a_fresh_table)


def _adds_a_fresh_table(bridge: Any) -> None:
    import torch

    bridge.original_model.register_buffer("table", torch.empty(64), persistent=False)


@mutant(kills="loading/two-processes")
def fails_under_one_hash_seed(boot: Boot) -> None:
    """The boot fails in every other process, when a set of keywords comes in another order."""
    _elsewhere(boot, _fails_at_random)


def _fails_at_random(bridge: Any) -> None:
    if os.environ["PYTHONHASHSEED"] == "1":
        raise KeyError("attn_implementation")


@mutant(kills="loading/process-state")
def default_rotation_for_all(boot: Boot) -> None:
    """ "default" is written into the registry that all models share (TransformerLens, the first shim for Dream)."""
    _elsewhere(boot, _registers_a_default_rotation)


def _registers_a_default_rotation(bridge: Any) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    def rotation(config: Any = None, device: Any = None, seq_len: Any = None, **kwargs: Any) -> Any:
        import torch

        return torch.full((config.hidden_size // config.num_attention_heads // 2,), 0.5), 1.0

    ROPE_INIT_FUNCTIONS["default"] = rotation


@mutant(kills="loading/process-state")
def no_model_is_initialised(boot: Boot) -> None:
    """`_init_weights` is wrapped on the base class of all models, not on the remote one that needs it."""
    _elsewhere(boot, _wraps_the_base_class)


def _wraps_the_base_class(bridge: Any) -> None:
    from transformers import PreTrainedModel

    kind: Any = PreTrainedModel
    plain = kind._init_weights

    def _init_weights(self: Any, module: Any) -> None:
        if all(parameter.is_meta for parameter in module.parameters()):
            plain(self, module)

    kind._init_weights = _init_weights


@mutant(kills="loading/process-state")
def seeds_for_everyone(boot: Boot) -> None:
    """The boot seeds the global generator, and the user's runs all draw the same numbers after it."""
    _elsewhere(boot, _seeds)


def _seeds(bridge: Any) -> None:
    import torch

    torch.manual_seed(1234)


@mutant(kills="loading/process-state")
def silences_warnings(boot: Boot) -> None:
    """Deprecation warnings of the remote code are silenced, and with them everyone's."""
    _elsewhere(boot, _ignores_warnings)


def _ignores_warnings(bridge: Any) -> None:
    import warnings

    warnings.filterwarnings("ignore", category=UserWarning)


@mutant(kills="loading/process-state")
def patches_a_native_module(boot: Boot) -> None:
    """A module class of transformers is patched for good, so that plain models compute otherwise (issue #1795)."""
    _elsewhere(boot, _patches_a_norm)


def _patches_a_norm(bridge: Any) -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    kind: Any = LlamaRMSNorm
    plain = kind.forward
    kind.forward = lambda self, x: plain(self, x) * (1 + 1e-3)


@mutant(kills="loading/process-state")
def kernels_switched_off(boot: Boot) -> None:
    """Constructing the model switches fused attention off in the whole process, as LLaDA's code does."""
    _elsewhere(boot, _switches_kernels_off)


def _switches_kernels_off(bridge: Any) -> None:
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def _elsewhere(boot: Boot, defect: Callable[[Any], None]) -> None:
    boot.amend_elsewhere = f"{defect.__module__}:{defect.__name__}"
