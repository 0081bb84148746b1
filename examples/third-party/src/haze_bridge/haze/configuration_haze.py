"""Configuration of Haze."""

from transformers import PretrainedConfig


class HazeConfig(PretrainedConfig):
    model_type = "haze"

    def __init__(
        self,
        vocab_size=50000,
        context_length=1024,
        hidden_dim=768,
        n_layers=12,
        n_heads=12,
        d_ff=3072,
        mask_id=49999,
        **rest,
    ):
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.hidden_dim = hidden_dim
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.d_ff = d_ff
        self.mask_id = mask_id
        super().__init__(**rest)
