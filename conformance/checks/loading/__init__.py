"""loading: what boots is the checkpoint, whole, on its own, and honest about itself. PYTEST_DONT_REWRITE"""

from . import booting, tensors, config, inputs, capabilities  # noqa: F401, I001 - the order of the contract
