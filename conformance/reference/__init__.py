"""A complete BD3LM adapter for TransformerLens, with what its bridge, sampler and objective need."""

from .adapter import BD3LMReferenceAdapter
from .bridge import DiffusionBridge
from .layouts import TrainingStream, text_canvas, training_view
from .objective import nelbo, nll
from .sampler import denoise

__all__ = [
    "BD3LMReferenceAdapter",
    "DiffusionBridge",
    "TrainingStream",
    "denoise",
    "nelbo",
    "nll",
    "text_canvas",
    "training_view",
]
