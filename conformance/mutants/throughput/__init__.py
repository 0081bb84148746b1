"""throughput: work that no value shows."""

from . import counts, memory, ratios, baseline  # noqa: F401, I001 - the order of the contract
