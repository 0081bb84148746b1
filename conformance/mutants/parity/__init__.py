"""parity: other logits, hooks that show other tensors, and judges that may not judge."""

from . import taps  # noqa: F401
