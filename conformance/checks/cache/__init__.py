"""cache: `run_with_cache` keeps what hooks saw, all of it, and nothing else. PYTEST_DONT_REWRITE"""

from . import entries, filters  # noqa: F401 - the order of the contract
