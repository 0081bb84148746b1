"""parity: the bridge computes what the model computes, at every tap. PYTEST_DONT_REWRITE"""

from . import taps, stand_in, grid, conditioning, variants, likelihood, compatibility  # noqa: F401, I001 - the order of the contract
