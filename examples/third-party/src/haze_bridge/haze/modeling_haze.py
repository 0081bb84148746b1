"""Haze: a transformer that sees a whole text, some of it masked, and how much noise there is in it.

Shapes: b batch, s stream, D `hidden_dim`, h heads, V `vocab_size`.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from .configuration_haze import HazeConfig


class HazeAttention(nn.Module):
    """Every token attends to every other, but for keys that `attention_mask` (b, s) hides."""

    def __init__(self, config):
        super().__init__()
        self.n_heads = config.n_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(config.hidden_dim, config.hidden_dim, bias=False) for _ in range(4)
        )

    def forward(self, x, attention_mask=None):
        projections = self.q_proj, self.k_proj, self.v_proj
        q, k, v = (project(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for project in projections)
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class HazeMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.hidden_dim, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.hidden_dim)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class HazeLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.hidden_dim)
        self.attention = HazeAttention(config)
        self.norm_2 = nn.LayerNorm(config.hidden_dim)
        self.mlp = HazeMLP(config)

    def forward(self, x, attention_mask=None):
        x = x + self.attention(self.norm_1(x), attention_mask)
        return x + self.mlp(self.norm_2(x))


class HazeForMaskedLM(PreTrainedModel):
    """Row i of the logits speaks of token i; `sigma` (b,) is the noise level, the share of masks from 0 to 1."""

    config_class = HazeConfig

    def __init__(self, config):
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_dim)
        self.places = nn.Embedding(config.context_length, config.hidden_dim)
        width = config.hidden_dim
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(HazeLayer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.head = nn.Linear(config.hidden_dim, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, sigma, attention_mask=None):
        self._check(input_ids, sigma, attention_mask)
        places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        x = self.tokens(input_ids) + self.places(places) + self.level(sigma[:, None])[:, None]
        for layer in self.layers:
            x = layer(x, attention_mask)
        return MaskedLMOutput(logits=self.head(self.norm(x)))

    def _check(self, input_ids, sigma, attention_mask):
        rows, vocabulary = input_ids.shape[0], self.config.vocab_size
        if input_ids.ndim != 2 or not 0 < input_ids.shape[1] <= self.config.context_length:
            shape = tuple(input_ids.shape)
            raise ValueError(f"input_ids: shape {shape}, want batch and a length to {self.config.context_length}")
        if input_ids.min() < 0 or input_ids.max() >= vocabulary:
            raise ValueError(f"input_ids: want ids of tokens, 0 to {vocabulary - 1}")
        if not torch.is_tensor(sigma) or sigma.shape != (rows,) or not sigma.isfinite().all():
            raise ValueError(f"sigma: want a finite number for each of {rows} rows")
        if attention_mask is None:
            return
        if attention_mask.shape != input_ids.shape or attention_mask.is_floating_point():
            raise ValueError("attention_mask: want whole numbers or bools like input_ids, 0 where a token is hidden")
