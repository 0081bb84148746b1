"""Process-wide state: everything that a boot could change for models it has nothing to do with, as text."""

from __future__ import annotations

import builtins
import gc
import hashlib
import logging
import os
import random
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy
import torch
import transformers
from torch.backends import cuda, cudnn, mha
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, masking_utils
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto import configuration_auto, modeling_auto, tokenization_auto

Value = str | dict[str, str]
"""What a probe reads: one thing, or several by name."""

LIBRARIES = ("torch.nn.", "transformers.")
"""Modules whose functions and classes nobody may exchange."""


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:12]


def describe(member: object) -> str:
    """A function by name, place and code, a class by its name, anything else by its text where that is stable."""
    member = getattr(member, "__func__", getattr(member, "fget", member))
    if code := getattr(member, "__code__", None):
        home = f"{getattr(member, '__module__', '')}.{getattr(member, '__qualname__', '')}"
        return f"{home} {_digest(code.co_code, code.co_names, code.co_firstlineno, code.co_filename)}"
    if isinstance(member, type):
        return f"{member.__module__}.{member.__qualname__}"
    if isinstance(member, tuple | list):
        return f"[{', '.join(map(describe, member))}]"
    return repr(member) if isinstance(member, str | int | float | bool | None) else type(member).__qualname__


def members(owner: object) -> dict[str, str]:
    """What an object holds under its names."""
    return {name: describe(member) for name, member in list(vars(owner).items())}


def functions(module: types.ModuleType) -> str:
    """All functions and classes of a module, with all members of a class that is defined there, as one digest."""
    held: list[object] = []
    for name, member in sorted(vars(module).items()):
        if isinstance(member, types.FunctionType):
            held.append((name, describe(member)))
        elif isinstance(member, type) and member.__module__ == module.__name__:
            named = ((key, value) for key, value in members(member).items() if not key.startswith("__"))
            held.append((name, sorted(named)))
    return _digest(*held)


def libraries() -> dict[str, str]:
    """The functions and classes of every module of the libraries that is loaded."""
    loaded = [(name, module) for name, module in list(sys.modules.items()) if name.startswith(LIBRARIES)]
    return {name: functions(module) for name, module in loaded if isinstance(module, types.ModuleType)}


def registered(modules: Iterable[types.ModuleType]) -> dict[str, str]:
    """What was added to the mappings behind transformers' auto classes."""
    added: dict[str, str] = {}
    for module in modules:
        for name, mapping in vars(module).items():
            extra = getattr(mapping, "_extra_content", None) if name.isupper() else None
            for key, value in (extra or {}).items():
                added[f"{name} of {getattr(key, '__qualname__', key)}"] = describe(value)
    return added


def unrelated_logits() -> str:
    """Logits of a small Llama, made from a config and a seed now."""
    config = LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config)
        model.eval()
        logits = model(torch.arange(12)[None]).logits
    return _digest(logits.double().tolist())


def torchscript() -> dict[str, str]:
    """Switches of TorchScript; two of them can only be read by setting them."""
    c, switches = torch._C, {}
    for name in ("_jit_set_profiling_mode", "_jit_set_profiling_executor"):
        switch = getattr(c, name)
        switches[name.replace("_set", "")] = str(before := switch(True))
        switch(before)
    for name in ("_jit_can_fuse_on_cpu", "_jit_can_fuse_on_gpu", "_jit_texpr_fuser_enabled"):
        switches[name] = str(getattr(c, name)())
    return switches


def dynamo() -> dict[str, str]:
    """The settings of torch.compile, where something has loaded it."""
    loaded = sys.modules.get("torch._dynamo.config")
    settings: dict[str, object] = loaded.get_config_copy() if loaded else {}
    return {name: describe(value) for name, value in settings.items()}


def random_states() -> dict[str, str]:
    """Where the three random number generators stand."""
    _, keys, position, *_ = numpy.random.get_state()
    return {
        "random": _digest(random.getstate()),
        "numpy": _digest(list(keys), position),
        "torch": _digest(torch.get_rng_state().tolist()),
    }


def search_path() -> dict[str, str]:
    """`sys.path`, with the name that differs from process to process left out."""
    modules = os.environ.get("HF_MODULES_CACHE", "\0")
    return {path.replace(modules, "HF_MODULES_CACHE"): "on it" for path in sys.path}


PROBES: Mapping[str, Callable[[], Value]] = {
    "torch default dtype": lambda: str(torch.get_default_dtype()),
    "torch default device": lambda: str(torch.get_default_device()),
    "torch grad mode": lambda: f"{torch.is_grad_enabled()}, inference {torch.is_inference_mode_enabled()}",
    "torch autocast": lambda: f"{torch.is_autocast_enabled('cpu')}, anomaly {torch.is_anomaly_enabled()}",
    "torch deterministic algorithms": lambda: str(torch.get_deterministic_debug_mode()),
    "torch matmul precision": lambda: torch.get_float32_matmul_precision(),
    "torch threads": lambda: f"{torch.get_num_threads()}, {torch.get_num_interop_threads()} between operators",
    "torch attention kernels": lambda: {
        "flash": str(cuda.flash_sdp_enabled()),
        "mem_efficient": str(cuda.mem_efficient_sdp_enabled()),
        "math": str(cuda.math_sdp_enabled()),
        "cudnn": str(cuda.cudnn_sdp_enabled()),
        "fast path": str(mha.get_fastpath_enabled()),
    },
    "torch cudnn": lambda: f"{cudnn.enabled}, deterministic {cudnn.deterministic}, benchmark {cudnn.benchmark}",
    "torch script": torchscript,
    "torch compile": dynamo,
    "random states": random_states,
    "warnings.filters": lambda: {_filter(entry): "set" for entry in warnings.filters},
    "logging levels": lambda: {
        name or "root": str(logging.getLogger(name).level)
        for name in ("", "torch", "transformers", "transformer_lens", "huggingface_hub")
    },
    "os.environ": lambda: {name: _digest(value) for name, value in os.environ.items()},
    "sys.path": search_path,
    "working directory": os.getcwd,
    "garbage collector": lambda: f"{gc.isenabled()}, {gc.get_threshold()}",
    "builtins": lambda: members(builtins),
    "nn.Module": lambda: members(torch.nn.Module),
    "transformers.PreTrainedModel": lambda: members(PreTrainedModel),
    "transformers ROPE_INIT_FUNCTIONS": lambda: {name: describe(f) for name, f in ROPE_INIT_FUNCTIONS.items()},
    "transformers attention functions": lambda: {
        name: describe(function)
        for registry in (transformers.AttentionInterface, masking_utils.AttentionMaskInterface)
        for name, function in registry._global_mapping.items()
    },
    "transformers auto classes": lambda: registered((configuration_auto, modeling_auto, tokenization_auto)),
    "library functions": libraries,
    "an unrelated model": unrelated_logits,
}
"""Every piece of state by the name under which a finding speaks of it."""


def _filter(entry: tuple[object, ...]) -> str:
    action, message, category, module, line = entry
    texts = (getattr(part, "pattern", part) for part in (message, module))
    return f"{action} {' '.join(map(str, texts))} {describe(category)} {line}"


def state() -> dict[str, Value]:
    """What every probe reads now; that one fails is what it reads."""
    found: dict[str, Value] = {}
    for name, read in PROBES.items():
        try:
            found[name] = read()
        except Exception as error:
            found[name] = f"raises {type(error).__name__}"
    return found
