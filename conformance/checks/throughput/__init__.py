"""throughput: what the bridge adds to the model's own work, counted exactly and timed in pairs. PYTEST_DONT_REWRITE"""

from . import counts, memory, ratios, baseline  # noqa: F401, I001 - the order of the contract
