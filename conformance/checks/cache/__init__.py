"""cache: `run_with_cache` keeps what hooks saw, all of it, and nothing else. PYTEST_DONT_REWRITE"""

from . import entries, filters, options, algebra  # noqa: F401, I001 - the order of the contract
