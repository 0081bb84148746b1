"""parity: the bridge computes what the model computes, at every tap. PYTEST_DONT_REWRITE"""

from . import taps  # noqa: F401
