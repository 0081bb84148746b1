"""parity: other logits, hooks that show other tensors, and judges that may not judge."""

from . import compatibility, conditioning, grid, likelihood, model, stand_in, taps, variants  # noqa: F401
