"""mask: who may attend to whom, as a tensor and as behaviour. PYTEST_DONT_REWRITE"""

from . import relation, grid, limits, decoding, dial, encodings  # noqa: F401, I001 - the order of the contract
