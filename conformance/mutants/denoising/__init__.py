"""denoising: samplers that lose, leak or hide something, and steps that are not what they are called."""

from . import ends, logits, steps, text, watching  # noqa: F401
