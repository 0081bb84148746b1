"""mask: cells that are wrong where no one looks, masks that are not used, and ways around them."""

from . import relation  # noqa: F401
