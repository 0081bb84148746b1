"""mask: who may attend to whom, as a tensor and as behaviour. PYTEST_DONT_REWRITE"""

from . import relation  # noqa: F401
