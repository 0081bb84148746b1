"""parity: other logits, hooks that show other tensors, and judges that may not judge."""

from . import stand_in, taps  # noqa: F401
