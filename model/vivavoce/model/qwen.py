"""Qwen2-shaped transformer stack: what is computed, for training and as the measure of the packed form.

One stack serves three places: the LLM backbone, the patch encoder and the patch decoder. As Qwen2 (Qwen team 2024):
pre-norm RMSNorm, biases on q, k, v and none on o, SwiGLU, grouped-query attention, half-rotation rotary embedding.
What differs from Qwen2: a stack owns no token embedding (the backbone's is added by its subclass), and the patch
encoder may look both ways. Nothing is cached here: generation runs the same weights from `packed`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.layers import RMSNorm, rotary_angles, rotate
from vivavoce.model.lm_config import StackConfig


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023)."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        self.q_proj = nn.Linear(config.width, config.heads * config.head_dim)
        self.k_proj = nn.Linear(config.width, config.kv_heads * config.head_dim)
        self.v_proj = nn.Linear(config.width, config.kv_heads * config.head_dim)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.width, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], *, causal: bool) -> Tensor:
        """Map x[rows, length, width] to the same shape."""
        rows, length, _ = x.shape
        config = self.config
        query = self.q_proj(x).view(rows, length, config.heads, config.head_dim).transpose(1, 2)
        key = self.k_proj(x).view(rows, length, config.kv_heads, config.head_dim).transpose(1, 2)
        value = self.v_proj(x).view(rows, length, config.kv_heads, config.head_dim).transpose(1, 2)
        query, key = rotate(query, *angles), rotate(key, *angles)
        mixed = F.scaled_dot_product_attention(
            query, key, value, is_causal=causal, enable_gqa=config.heads != config.kv_heads
        )
        return torch.as_tensor(self.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1)))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.width, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x[..., width] to the same shape."""
        return torch.as_tensor(self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], *, causal: bool) -> Tensor:
        """Map x[rows, length, width] to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), angles, causal=causal)
        return x + torch.as_tensor(self.mlp(self.post_attention_layernorm(x)))


class QwenStack(nn.Module):
    """Layers and final norm of a Qwen2 model."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)

    def forward(self, x: Tensor, *, causal: bool = True) -> Tensor:
        """Run x[rows, length, width] through layers and final norm; every row starts at position 0.

        Args:
            x: input.
            causal: no position sees a later one.
        """
        positions = torch.arange(x.shape[1], device=x.device)
        angles = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        for layer in self.layers:
            x = layer(x, angles, causal=causal)
        return torch.as_tensor(self.norm(x))


class Backbone(QwenStack):
    """The LLM: a stack with the text embedding that the published names put inside it."""

    def __init__(self, config: StackConfig, vocab: int) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(vocab, config.width)
