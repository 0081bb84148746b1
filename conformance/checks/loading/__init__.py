"""loading: what boots is the checkpoint, whole, on its own, and honest about itself. PYTEST_DONT_REWRITE"""

from . import booting, consent, processes, tensors, tables, rotary, dtypes  # noqa: F401, I001 - the order of the contract
from . import weights, config, registration, inputs, capabilities, flags  # noqa: F401
