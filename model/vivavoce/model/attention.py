"""Transformer stacks of the tokenizer: bidirectional, causal or windowed attention over sequences of any length.

Sequences of different lengths share a batch by padding on the right. Padding leaves no trace: no frame ever attends
to another row's padding, and what padded frames compute is thrown away by whoever reads the stack's output.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.checkpoint import CheckpointError
from vivavoce.model.layers import RMSNorm, rotary_angles, rotate
from vivavoce.model.tokenizer_config import StackShape, Window

QUERY_BLOCK = 512  # queries that share one mask in windowed attention: memory grows with the length, not its square

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_fast": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def own_frames(lengths: Tensor, frames: int) -> Tensor:
    """Which frames of a padded batch are a row's own: bool[rows, frames]."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def clear_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Set padded frames of x[rows, frames, width] to zero; `lengths` None: there are none."""
    return x if lengths is None else torch.where(own_frames(lengths, x.shape[1])[..., None], x, 0)


class Sight:
    """What each frame of a batch may look at; made once per pass, shared by all layers of a stack.

    Args:
        frames: padded length of the batch.
        lengths: int64[rows], own frames of each row; None when no row is padded.
        window: frames seen to the left and right, -1 for all.
    """

    def __init__(self, frames: int, lengths: Tensor | None, window: Window, device: torch.device) -> None:
        left, right = window
        # Own frames come first, so a causal row never sees its padding.
        self.causal = left < 0 and right == 0
        self.everything = left < 0 and right < 0 and lengths is None
        self.blocks: list[tuple[slice, slice, Tensor]] = []
        if self.causal or self.everything:
            return
        for start in range(0, frames, QUERY_BLOCK):
            queries = slice(start, min(start + QUERY_BLOCK, frames))
            first = max(0, queries.start - left) if left >= 0 else 0
            last = min(frames, queries.stop + right) if right >= 0 else frames
            keys = slice(first, last)
            self.blocks.append((queries, keys, _mask(queries, keys, window, lengths, device)))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Scaled dot-product attention on [rows, heads, frames, head_dim]."""
        if not self.blocks:
            return F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        parts = [
            F.scaled_dot_product_attention(query[:, :, q], key[:, :, k], value[:, :, k], attn_mask=mask)
            for q, k, mask in self.blocks
        ]
        return torch.cat(parts, dim=2)


def _mask(queries: slice, keys: slice, window: Window, lengths: Tensor | None, device: torch.device) -> Tensor:
    query = torch.arange(queries.start, queries.stop, device=device)[:, None]
    key = torch.arange(keys.start, keys.stop, device=device)
    seen = torch.ones((len(query), len(key)), dtype=torch.bool, device=device)
    if window[0] >= 0:
        seen &= key >= query - window[0]
    if window[1] >= 0:
        seen &= key <= query + window[1]
    if lengths is None:
        return seen[None, None]
    # A padded frame sees itself: with nothing to look at, softmax would make it NaN.
    return ((seen & (key < lengths[:, None, None])) | (key == query))[:, None]


class SelfAttention(nn.Module):
    """Multi-head attention with rotary embedding; the key projection has no bias."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q_proj = nn.Linear(shape.width, shape.width)
        self.k_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.width)
        self.out_proj = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor, sight: Sight, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Map x[rows, frames, width] to the same shape."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = sight.attend(rotate(query, *angles), rotate(key, *angles), value)
        return torch.as_tensor(self.out_proj(mixed.transpose(1, 2).flatten(2)))


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.self_attn_layer_norm = make_norm(shape)
        self.self_attn = SelfAttention(shape)
        self.final_layer_norm = make_norm(shape)
        self.fc1 = nn.Linear(shape.width, shape.ffn)
        self.fc2 = nn.Linear(shape.ffn, shape.width)
        self.activation = ACTIVATIONS[shape.activation]

    def forward(self, x: Tensor, sight: Sight, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Map x[rows, frames, width] to the same shape."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), sight, angles)
        return x + torch.as_tensor(self.fc2(self.activation(self.fc1(self.final_layer_norm(x)))))


def make_norm(shape: StackShape) -> nn.Module:
    """The norm that `ln_type` names."""
    return RMSNorm(shape.width) if shape.norm == "RMSNorm" else nn.LayerNorm(shape.width)


class LayerStack(nn.Module):
    """Layers and final norm: what encoder, decoder and vocoder have in common, under the published names."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        if shape.activation not in ACTIVATIONS:
            raise CheckpointError(f"config.json: activation_function {shape.activation!r} is not known")
        self.shape = shape
        self.layers = nn.ModuleList(TransformerLayer(shape) for _ in range(shape.layers))
        self.layer_norm = make_norm(shape)

    def transform(self, x: Tensor, lengths: Tensor | None, skip_layer: int | None = None) -> Tensor:
        """Run x[rows, frames, width] through all layers and the final norm.

        Args:
            lengths: int64[rows], own frames of each row; None when no row is padded.
            skip_layer: number (from 1) of a layer whose output is added before the final norm.
        """
        frames = x.shape[1]
        sight = Sight(frames, lengths, self.shape.window, x.device)
        positions = torch.arange(frames, device=x.device)
        angles = rotary_angles(positions, self.shape.width // self.shape.heads, self.shape.rope_theta)
        skipped: Tensor | None = None
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, sight, angles)
            if number == skip_layer:
                skipped = x
        return torch.as_tensor(self.layer_norm(x if skipped is None else x + skipped))
