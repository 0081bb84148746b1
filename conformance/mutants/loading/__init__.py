"""loading: boots that are not the checkpoint, not alone, not reproducible, or not honest."""

from . import booting, capabilities, config, inputs, tensors  # noqa: F401
