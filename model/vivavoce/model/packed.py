"""Weights of the language model laid out for generation, apart from the modules that training and parity use.

What differs from the modules, and why:
- q, k, v lie side by side, and so do gate and up: fewer and larger matrix products.
- The rows of q and k are reordered so that the two halves that rotary embedding turns lie next to each other: one
  complex product turns both. Dot products of queries with keys stay what they are.
- `int8`: weights of linear layers rounded to 127 steps per output channel, activations to bfloat16, sums in float32.
  A step of one row only waits for weights; a quarter of the bytes is nearly a quarter of the time. Its kernel treats
  every row alike, however many there are, so the output of a row is the same to the last bit in any batch.
- Many rows at once (prompts) wait for arithmetic instead: they always use the full weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.lm_config import StackConfig
from vivavoce.model.qwen import Layer, QwenStack

Precision = Literal["full", "int8"]
Attend = Callable[[int, Tensor], Tensor]
"""Attention of one layer: (layer, turned q, k, v [rows, heads + 2 kv_heads, head_dim]) -> [rows, heads * head_dim]."""

INT8_STEPS = 127


class PackedLinear:
    """One or several linear layers of the same input, side by side.

    Args:
        weight: [out, in].
        bias: [out], or None.
        precision: `int8` for steps of few rows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> None:
        self.weight, self.bias = weight, bias
        self.turned = None
        self.codes = None
        if precision == "int8":
            # Scales are bfloat16 to the kernel: rounded first, they cost nothing.
            scales = (weight.float().abs().amax(1).clamp(min=1e-8) / INT8_STEPS).bfloat16()
            steps = (weight.float() / scales.float()[:, None]).round().clamp(-INT8_STEPS, INT8_STEPS)
            self.codes, self.scales = steps.to(torch.int8).contiguous(), scales
        elif weight.device.type == "cpu" and weight.shape[0] > weight.shape[1]:
            # Read along its longer side, a product with one row takes half the time.
            self.turned = weight.t().contiguous()

    def few(self, x: Tensor) -> Tensor:
        """Map x[rows, in] of a step to [rows, out]; bfloat16 where `int8`, without bias there is no other rounding."""
        if self.codes is not None:
            made = torch._weight_int8pack_mm(x.bfloat16(), self.codes, self.scales)
            return made if self.bias is None else made + self.bias
        if self.turned is None:
            return F.linear(x, self.weight, self.bias)
        return x @ self.turned if self.bias is None else torch.addmm(self.bias, x, self.turned)

    def many(self, x: Tensor) -> Tensor:
        """Map x[rows, in] of a prompt to [rows, out]."""
        return F.linear(x, self.weight, self.bias)


def pack(layers: Sequence[nn.Linear], precision: Precision) -> PackedLinear:
    """Put layers of the same input side by side; all have a bias, or none has."""
    weights: list[Tensor] = [layer.weight.detach() for layer in layers]
    biases: list[Tensor] = [layer.bias.detach() for layer in layers if layer.bias is not None]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    return PackedLinear(weight, torch.cat(biases) if biases else None, precision)


class PackedLayer:
    """One layer of a stack."""

    def __init__(self, layer: Layer, config: StackConfig, precision: Precision) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        turning = (attention.q_proj, attention.k_proj)
        order = _neighbours(config.head_dim)
        weights = [each.weight.view(-1, config.head_dim, config.width)[:, order].flatten(0, 1) for each in turning]
        biases = [each.bias.view(-1, config.head_dim)[:, order].flatten() for each in turning]
        self.qkv = PackedLinear(
            torch.cat([*weights, attention.v_proj.weight]).detach(),
            torch.cat([*biases, attention.v_proj.bias]).detach(),
            precision,
        )
        self.out = pack([attention.o_proj], precision)
        self.gate_up = pack([mlp.gate_proj, mlp.up_proj], precision)
        self.down = pack([mlp.down_proj], precision)
        self.norm = layer.input_layernorm.weight.detach()
        self.mlp_norm = layer.post_attention_layernorm.weight.detach()


def _neighbours(head_dim: int) -> Tensor:
    """Order in which element i of the first half is followed by element i of the second."""
    return torch.arange(head_dim).view(2, -1).T.flatten()


class PackedStack:
    """A stack as a list of tensors and one loop; what is attended to is the caller's affair."""

    def __init__(self, stack: QwenStack, precision: Precision) -> None:
        self.config = stack.config
        self.layers = [PackedLayer(layer, stack.config, precision) for layer in stack.layers]  # type: ignore[arg-type]
        self.norm = stack.norm.weight.detach()

    def turns(self, positions: Tensor) -> Tensor:
        """Rotary embedding as complex64[positions, 1, head_dim / 2] of int64 positions."""
        config = self.config
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device) / config.head_dim
        angles = positions.float()[:, None] * config.rope_theta**-exponents
        return torch.complex(angles.cos(), angles.sin())[:, None]

    def run(self, x: Tensor, turns: Tensor, attend: Attend, *, many: bool) -> Tensor:
        """Run x[rows, width] through all layers and the final norm.

        Args:
            x: input.
            turns: of `turns`, one position per row, or one for all.
            attend: attention, and where keys and values are kept.
            many: the rows of a prompt; otherwise those of a step.
        """
        config, width, eps = self.config, (x.shape[1],), self.config.norm_eps
        turning = config.heads + config.kv_heads
        for number, layer in enumerate(self.layers):
            qkv, out, gate_up, down = (
                each.many if many else each.few for each in (layer.qkv, layer.out, layer.gate_up, layer.down)
            )
            mixed = qkv(F.rms_norm(x, width, layer.norm, eps)).float().view(len(x), -1, config.head_dim)
            torch.view_as_complex(mixed[:, :turning].view(len(x), turning, -1, 2)).mul_(turns)
            x = x + out(attend(number, mixed.to(x.dtype)))
            gate, up = gate_up(F.rms_norm(x, width, layer.mlp_norm, eps)).chunk(2, dim=-1)
            x = x + down(F.silu(gate) * up)
        return F.rms_norm(x, width, self.norm, eps)


def attend_within(config: StackConfig, length: int, *, causal: bool) -> Attend:
    """Attention of sequences of equal length that lie one behind the other and begin anew in every call."""
    heads, turning, grouped = config.heads, config.heads + config.kv_heads, config.heads != config.kv_heads

    def attend(_layer: int, qkv: Tensor) -> Tensor:
        sequences = qkv.view(-1, length, *qkv.shape[1:]).transpose(1, 2)
        query, key, value = sequences[:, :heads], sequences[:, heads:turning], sequences[:, turning:]
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=grouped)
        return mixed.transpose(1, 2).flatten(2).flatten(0, 1)

    return attend


def code_table(tables: Sequence[Tensor], zero_ids: Sequence[int]) -> Tensor:
    """Embedding tables of all channels [sum of sizes, width], one below the other; "zero" ids embed to zero."""
    tables = [table.detach().clone() for table in tables]
    for table, zero in zip(tables, zero_ids, strict=True):
        table[zero] = 0
    return torch.cat(tables)
