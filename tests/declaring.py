"""Bridges to test: adapters that declare what is asked for, and inputs of the miniature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RUN: dict[str, Any] = {"timesteps": torch.full((2,), 0.5), "sample_mode": True}
HALVES: dict[str, Any] = {"timesteps": torch.full((2,), 0.5)}


def ids(length: int = 9, rows: int = 2) -> torch.Tensor:
    return torch.randint(0, 60, (rows, length), generator=torch.Generator().manual_seed(0))


def shipped(folder: Path) -> Callable[..., Any]:
    """`shipped(folder)(supports_attention_mask=True)`: the reference's bridge around the adapter that is shipped.

    Its model projects noisy and clean half one after the other, so that hooks fire twice, and takes any keyword.
    """
    from transformer_lens.model_bridge.supported_architectures.bd3lm import BD3LMArchitectureAdapter

    from conformance.booting import boot
    from conformance.reference.bridge import DiffusionBridge

    class Adapter(BD3LMArchitectureAdapter):
        bridge_class = DiffusionBridge
        supports_causal_loss = False
        supports_attention_mask = False

        def setup_hook_compatibility(self, bridge: Any) -> None:
            for name, point in bridge.hook_dict.items():
                if name.startswith("sigma_map") or "adaln_modulation" in name:
                    point.positionless = True

    def booted(**declared: Any) -> Any:
        adapter = type("Declaring", (Adapter,), declared)
        return boot(folder, adapter, trust_remote_code=True, overrides={"attn_backend": "sdpa"})

    return booted


def complete(folder: Path) -> Any:
    """The reference adapter."""
    from conformance.booting import boot

    adapter = "conformance.reference.adapter:BD3LMReferenceAdapter"
    return boot(folder, adapter, trust_remote_code=True, overrides={"attn_backend": "sdpa"})
