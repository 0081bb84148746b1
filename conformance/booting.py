"""Booting a bridge: the way users do it, or with an adapter that TransformerLens does not ship."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from .spec import AdapterSpec


def boot(
    folder: str | Path | None = None,
    adapter: str | type | None = None,
    *,
    trust_remote_code: bool | None = None,
    overrides: Mapping[str, object] | None = None,
    hf_model: Any | None = None,
    dtype: torch.dtype = torch.float32,
) -> TransformerBridge:
    """Boot a bridge from a checkpoint, in fp32 unless asked otherwise, on CPU.

    `folder` is one, or OWNER/NAME in the local hub cache; None is the bundled miniature of a known adapter, whose code
    comes with the spec and needs no flag. Without `adapter`, TransformerLens selects its own by architecture, and
    so it does with the name of a spec that judges TransformerLens's, whose overrides and repair are then applied. With
    any other (the name of a known spec, "module:SPEC", "module:Class" or a class) the public `TransformerBridge` is
    built around it, or the subclass that it names as `bridge_class`, and TransformerLens's mapping of architectures is
    neither read nor written. With `hf_model`, a model that is built already is taken instead of one loaded from the
    folder. Code of the folder runs only with `trust_remote_code`; None leaves the flag out, as a user does who forgets
    it.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    known = known_spec(adapter)
    if folder is None:
        folder, trust_remote_code = miniature(known, adapter), True
    chosen: str | type | None = adapter
    if known is not None:
        chosen, overrides = known.adapter, {**known.overrides, **(overrides or {})}
        if known.built and hf_model is None and trust_remote_code:
            hf_model = _built(Path(folder), known, overrides)
    # Loaded here, with the flag set, as TransformerLens would look for it on the hub. transformers asks on the
    # terminal where the flag is None.
    trusted = bool(trust_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted, add_bos_token=True)
    if chosen is None:
        bridge = TransformerBridge.boot_transformers(
            str(folder),
            hf_config_overrides=dict(overrides or {}),
            device="cpu",
            dtype=dtype,
            tokenizer=tokenizer,
            hf_model=hf_model,
            **({} if trust_remote_code is None else {"trust_remote_code": trust_remote_code}),
        )
    else:
        made = chosen if isinstance(chosen, type) else named(chosen)
        bridge = _boot_with(made, str(folder), tokenizer, trusted, dict(overrides or {}), hf_model, dtype)
    if known is not None and known.repair is not None:
        named(known.repair)(bridge)
    return bridge


def _built(folder: Path, spec: AdapterSpec, overrides: Mapping[str, object]) -> Any:
    from . import checkpoint

    return checkpoint.build(folder, replace(spec, overrides=overrides))


def named(path: str) -> Any:
    """What stands behind "module:name"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def known_spec(adapter: str | type | None) -> AdapterSpec | None:
    """The spec of an adapter that is given by a known name, or as "module:SPEC"."""
    from .adapters import resolve
    from .spec import AdapterSpec

    if not isinstance(adapter, str) or (":" in adapter and not isinstance(named(adapter), AdapterSpec)):
        return None

    (spec,) = resolve([adapter])
    return spec


def miniature(spec: AdapterSpec | None, adapter: str | type | None) -> Path:
    """The bundled model of a known adapter, with its weights drawn."""
    from . import checkpoint

    if spec is None or spec.fixture is None:
        raise ValueError(f"folder: got None, want a checkpoint; adapter {adapter!r} has no bundled miniature")
    return checkpoint.materialise(checkpoint.fixture_folder(spec.fixture), spec)


def _boot_with(
    adapter_class: type,
    folder: str,
    tokenizer: Any,
    trust_remote_code: bool,
    overrides: dict[str, object],
    hf_model: Any | None,
    dtype: torch.dtype,
) -> TransformerBridge:
    # The steps of TransformerLens's own boot for one device, with the adapter given instead of looked up.
    import transformers
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources import _bridge_builder
    from transformer_lens.model_bridge.sources.transformers_driver import TransformersDriver
    from transformer_lens.utilities.attn_implementation import force_eager_attention

    if hf_model is None:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    else:
        config = copy.deepcopy(hf_model.config)
    config.__dict__.update(overrides)
    config.pad_token_id = getattr(config, "pad_token_id", None)
    adapter = _adapter(adapter_class, config, folder, dtype, trust_remote_code)
    adapter.cfg.device = "cpu"
    loading = {
        "config": config,
        "torch_dtype": dtype,
        "trust_remote_code": trust_remote_code,
        # TransformerLens forces eager attention, without which weights are never seen.
        "attn_implementation": getattr(adapter.cfg, "attn_implementation", None) or "eager",
    }
    adapter.prepare_loading(folder, loading)
    model = hf_model
    if model is not None:
        if getattr(adapter.cfg, "attn_implementation", None) is None:
            force_eager_attention(model)
    else:
        model = auto_class(config, architecture_of(config)).from_pretrained(folder, **loading)
    adapter.prepare_model(model)
    tokenizer = _bridge_builder.configure_tokenizer(tokenizer, adapter.cfg)
    if prepare := getattr(adapter, "prepare_tokenizer", None):
        prepare(tokenizer)
    bridge_class: type[TransformerBridge] = getattr(adapter_class, "bridge_class", TransformerBridge)
    return bridge_class(model, adapter, tokenizer, driver=TransformersDriver(model, adapter, tokenizer))


def _adapter(adapter_class: type, config: Any, folder: str, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    """The adapter of a model by its config, before anything is loaded."""
    from transformer_lens.model_bridge.sources import _bridge_builder

    cfg = _bridge_builder.build_bridge_config_from_hf(config, architecture_of(config), folder, dtype)
    cfg.trust_remote_code = trust_remote_code
    return adapter_class(cfg)


def mapping_of(adapter_class: type, folder: Path, overrides: Mapping[str, object]) -> Mapping[str, Any]:
    """The component mapping of an adapter on a model, whose config's code runs; nothing is loaded."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    config.__dict__.update(overrides)
    adapter = _adapter(adapter_class, config, str(folder), torch.float32, True)
    return adapter.component_mapping or {}


def architecture_of(config: Any) -> str:
    """The architecture by TransformerLens's reading of a config; of a model that it does not know, the first named."""
    from transformer_lens.model_bridge.sources import _hf_format

    try:
        known: str = _hf_format.determine_architecture_from_hf_config(config)
    except ValueError:
        return str((config.architectures or ["none"])[0])
    return known


def auto_class(config: Any, architecture: str) -> Any:
    """The Auto class that loads a model: TransformerLens's choice, unless the config maps the model to others only."""
    import transformers
    from transformer_lens.model_bridge.sources.transformers.helpers import get_hf_model_class_for_architecture

    chosen = get_hf_model_class_for_architecture(architecture)
    mapped = getattr(config, "auto_map", None) or {}
    held = [auto for auto, path in mapped.items() if str(path).endswith(f".{architecture}")]
    return chosen if not held or chosen.__name__ in held else getattr(transformers, held[0])
