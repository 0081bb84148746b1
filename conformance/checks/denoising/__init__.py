"""denoising: what a sampler makes of a prompt, step by step, as whoever watches is told. PYTEST_DONT_REWRITE"""

from . import text, ends, steps, logits, watching  # noqa: F401, I001 - the order of the contract
