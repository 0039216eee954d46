"""Qwen2-shaped transformer stack with its own KV cache.

One stack serves three places: the LLM backbone, the patch encoder and the patch decoder. As Qwen2 (Qwen team 2024):
pre-norm RMSNorm, biases on q, k, v and none on o, SwiGLU, grouped-query attention, half-rotation rotary embedding.
What differs from Qwen2: a stack owns no token embedding (the backbone's is added by its subclass), and the patch
encoder may look both ways.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.layers import RMSNorm, rotary_angles, rotate
from vivavoce.model.lm_config import StackConfig

CACHE_BLOCK = 128  # positions


class KVCache:
    """Keys and values of rows that may differ in length; rows can be added and removed between steps.

    `keys[layer]` and `values[layer]`: [rows, kv_heads, capacity, head_dim], on the device and of the type of the
    tensor `like`; `lengths`: int64[rows], on the CPU as Python needs it for every step and must not wait for a
    device. The capacity grows by whole blocks of `block` positions.
    """

    def __init__(self, config: StackConfig, rows: int, like: Tensor, block: int = CACHE_BLOCK) -> None:
        self.block = block
        shape = (rows, config.kv_heads, 0, config.head_dim)
        self.keys = [like.new_empty(shape) for _ in range(config.layers)]
        self.values = [like.new_empty(shape) for _ in range(config.layers)]
        self.lengths = torch.zeros(rows, dtype=torch.int64)

    @property
    def capacity(self) -> int:
        """Positions that fit before the cache must grow."""
        return self.keys[0].shape[2]

    def reserve(self, positions: int) -> None:
        """Make room for `positions` in every row, in whole blocks."""
        if positions <= self.capacity:
            return
        room = -(-positions // self.block) * self.block - self.capacity
        self.keys = [F.pad(key, (0, 0, 0, room)) for key in self.keys]
        self.values = [F.pad(value, (0, 0, 0, room)) for value in self.values]

    def append(self, other: KVCache) -> None:
        """Take over the rows of another cache behind the own ones."""
        longest = max(self.capacity, other.capacity)
        self.reserve(longest)
        other.reserve(longest)
        self.keys = [torch.cat(pair) for pair in zip(self.keys, other.keys, strict=True)]
        self.values = [torch.cat(pair) for pair in zip(self.values, other.values, strict=True)]
        self.lengths = torch.cat((self.lengths, other.lengths))

    def keep(self, rows: list[int]) -> None:
        """Keep only these rows, in this order."""
        index = torch.tensor(rows, dtype=torch.int64)
        self.lengths = self.lengths[index]
        index = index.to(self.keys[0].device)
        self.keys = [key.index_select(0, index) for key in self.keys]
        self.values = [value.index_select(0, index) for value in self.values]


class Step:
    """What one pass through a stack shares between its layers: angles, mask, and where the cache is written."""

    def __init__(self, x: Tensor, config: StackConfig, cache: KVCache | None, causal: bool) -> None:
        rows, new, _ = x.shape
        self.cache = cache
        starts = torch.zeros(rows, dtype=torch.int64) if cache is None else cache.lengths
        self.end = int(starts.max()) + new
        positions = starts[:, None] + torch.arange(new)
        if cache is not None:
            cache.reserve(self.end)
        self.fresh = self.end == new  # nothing older to look at
        self.causal = causal and self.fresh and new > 1
        # An explicit mask where rows end at different places; a lone new token of a full-length row sees everything.
        needs_mask = not self.fresh and not (new == 1 and bool((starts + 1 == self.end).all()))
        seen = torch.arange(self.end) <= positions[:, :, None] if needs_mask else None
        self.mask = None if seen is None else seen[:, None].to(x.device)
        self.positions = positions.to(x.device)
        cos, sin = rotary_angles(self.positions, config.head_dim, config.rope_theta)
        self.cos, self.sin = cos[:, None], sin[:, None]
        self.rows = torch.arange(rows, device=x.device)[:, None]

    def remember(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key and value [rows, kv_heads, new, head_dim]; return all that attention may look at."""
        if self.cache is None:
            return key, value
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys[self.rows, :, self.positions] = key.transpose(1, 2)
        values[self.rows, :, self.positions] = value.transpose(1, 2)
        if self.fresh:
            return key, value
        return keys[:, :, : self.end], values[:, :, : self.end]


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023)."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        self.q_proj = nn.Linear(config.width, config.heads * config.head_dim)
        self.k_proj = nn.Linear(config.width, config.kv_heads * config.head_dim)
        self.v_proj = nn.Linear(config.width, config.kv_heads * config.head_dim)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.width, bias=False)

    def forward(self, x: Tensor, step: Step, layer: int) -> Tensor:
        """Attend from x[rows, new, width]."""
        rows, new, _ = x.shape
        config = self.config
        query = self.q_proj(x).view(rows, new, config.heads, config.head_dim).transpose(1, 2)
        key = self.k_proj(x).view(rows, new, config.kv_heads, config.head_dim).transpose(1, 2)
        value = self.v_proj(x).view(rows, new, config.kv_heads, config.head_dim).transpose(1, 2)
        query, key = rotate(query, step.cos, step.sin), rotate(key, step.cos, step.sin)
        key, value = step.remember(layer, key, value)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=step.mask, is_causal=step.causal, enable_gqa=config.heads != config.kv_heads
        )
        return torch.as_tensor(self.o_proj(mixed.transpose(1, 2).reshape(rows, new, -1)))


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

    def forward(self, x: Tensor, step: Step, layer: int) -> Tensor:
        """Map x[rows, new, width] to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), step, layer)
        return x + torch.as_tensor(self.mlp(self.post_attention_layernorm(x)))


class QwenStack(nn.Module):
    """Layers and final norm of a Qwen2 model."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)

    def forward(self, x: Tensor, cache: KVCache | None = None, *, causal: bool = True) -> Tensor:
        """Run x[rows, new, width] through the stack.

        With a cache, the new positions follow each row's own length and are written behind it; without one, every
        row starts at position 0. `causal=False` lets every position see every other one (no cache then).

        Returns:
            [rows, new, width] after the final norm.
        """
        step = Step(x, self.config, cache, causal)
        for index, layer in enumerate(self.layers):
            x = layer(x, step, index)
        if cache is not None:
            cache.lengths = cache.lengths + x.shape[1]
        return torch.as_tensor(self.norm(x))


class Backbone(QwenStack):
    """The LLM: a stack with the text embedding that the published names put inside it."""

    def __init__(self, config: StackConfig, vocab: int) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(vocab, config.width)
