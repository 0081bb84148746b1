"""mask: cells that are wrong where no one looks, masks that are not used, and ways around them."""

from . import decoding, dial, encodings, grid, limits, relation, wholesale  # noqa: F401
