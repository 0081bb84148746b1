"""loading: boots that are not the checkpoint, not alone, not reproducible, or not honest."""

from . import (  # noqa: F401
    booting,
    capabilities,
    config,
    consent,
    dtypes,
    flags,
    inputs,
    processes,
    registration,
    rotary,
    tables,
    tensors,
    weights,
)
