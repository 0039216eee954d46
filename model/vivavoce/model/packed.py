"""Weights of the language model laid out for generation, apart from the modules that training and parity use.

What differs from the modules, and why:
- q, k, v lie side by side, and so do gate and up: fewer and larger matrix products.
- Weights are [in, out], which a product with few rows reads fastest; a product that is added to what was there before
  is one call with it.
- A norm's weights are multiplied into the layer that reads it: what is left of the norm is a division.
- The rows of q and k are reordered so that the two halves that rotary embedding turns lie next to each other: one
  complex product turns both. Dot products of queries with keys stay what they are.

A product may round a row's numbers in another way when there are other rows beside it, and a drawn code may then be
another one. Two ways keep that from happening:
- `int8`, for CPUs: weights are rounded to 127 steps per output channel, activations to 127 steps per row. The products'
  terms and sums are then whole numbers, in whatever order they are added. A processor that multiplies them (VNNI, AMX)
  does so for any number of rows. Another one holds them exactly in float32: few rows, which wait for weights, read a
  quarter of the bytes; many rows use float32's product, which is faster there, with equal results.
- `full`: `least_rows` measures from how many rows on all rows are treated alike here; nobody asks for fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.lm_config import StackConfig
from vivavoce.model.qwen import Layer, QwenStack

Attend = Callable[[int, Tensor], Tensor]
"""Attention of one layer: (layer, turned q, k, v [rows, heads + 2 kv_heads, head_dim]) -> [rows, heads * head_dim]."""

Precision = Literal["full", "int8"]
STEPS = 127
WIDEST = 2**24 // STEPS**2  # inputs whose sum float32 holds exactly, whatever they are
INT8_WIDTH = 32  # torch's unpacking kernel reads beyond inputs that are no multiple of its vectors: those stay full
MANY_ROWS = 12  # from here on float32's product is faster than the one that unpacks int8 (measured on AVX2)
TRIED_ROWS = (*range(1, 18), 24, 31, 33, 48, 63, 64, 96, 128, 333, 512)
CANDIDATES = (1, 2, 4, 8, 16, 32)


def multiplies_int8() -> bool:
    """Whether the processor has instructions for products of eight-bit integers that torch's kernels use."""
    return torch.cpu._is_vnni_supported()


class PackedLinear:
    """One or several linear layers of the same input, side by side.

    Args:
        weight: [out, in].
        bias: [out], or None.
        precision: `int8` where the input's width allows it.
        integer: whether int8 is multiplied as integers; None: where the processor can.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        precision: Precision = "full",
        *,
        integer: bool | None = None,
    ) -> None:
        width = weight.shape[1]
        self.bias = bias
        self.shape = (width, weight.shape[0])
        self.codes: Tensor | None = None
        self._integer = multiplies_int8() if integer is None else integer
        if precision == "int8" and (self._integer or (width % INT8_WIDTH == 0 and width <= WIDEST)):
            # The unpacking kernel's scales are bfloat16: rounded first, that costs nothing.
            scales = (weight.float().abs().amax(1).clamp(min=1e-8) / STEPS).bfloat16()
            weight = (weight.float() / scales.float()[:, None]).round().clamp(-STEPS, STEPS)
            self.codes, self.scales, self._wide_scales = weight.to(torch.int8).contiguous(), scales, scales.float()
            self._tiny = torch.tensor(1e-30)
        if self.codes is None or not self._integer:
            self.weight = weight.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """Map x[rows, in] to [rows, out]."""
        if self.codes is not None:
            made, step = self._whole_numbers(x, self.codes)
            return made * step if self.bias is None else torch.addcmul(self.bias, made, step)
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def onto(self, base: Tensor, x: Tensor) -> Tensor:
        """Map x[rows, in], and add it to base[rows, out]; for layers without bias."""
        if self.codes is not None:
            made, step = self._whole_numbers(x, self.codes)
            return torch.addcmul(base, made, step)
        return torch.addmm(base, x, self.weight)

    def _whole_numbers(self, x: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Product of x in whole steps, [rows, out] of x's type or bfloat16, and the size of a step, [rows, 1]."""
        peak = x.abs().amax(-1, keepdim=True)
        step = torch.add(self._tiny, peak, alpha=1 / STEPS)
        whole = (x / step).round_()
        if self._integer:
            return (torch._int_mm(whole.to(torch.int8), codes.t()) * self._wide_scales).to(x.dtype), step
        if len(x) < MANY_ROWS:
            return torch._weight_int8pack_mm(whole.bfloat16(), codes, self.scales), step
        return (whole @ self.weight).mul_(self._wide_scales).bfloat16(), step


def precision_for(device: torch.device, rows: int) -> Precision:
    """What serves a batch of so many rows fastest: whole numbers where a CPU multiplies them, or few rows wait."""
    return "int8" if device.type == "cpu" and (multiplies_int8() or rows < MANY_ROWS) else "full"


def least_rows(layers: Sequence[PackedLinear]) -> int | None:
    """From how many rows on the products of these layers treat every row alike; None: not as far as was tried.

    Found out by trying the kernels as they are on this machine; only for CPUs, where a shape has few of them. A
    product's order of adding does not depend on the numbers, so that random ones show it.
    """
    full = [layer for layer in layers if layer.codes is None]
    if not full:
        return 1
    if full[0].weight.device.type != "cpu":
        return None
    return _least_rows(frozenset(layer.shape for layer in full), full[0].weight.dtype)


@lru_cache(maxsize=64)
@torch.inference_mode()
def _least_rows(shapes: frozenset[tuple[int, int]], dtype: torch.dtype) -> int | None:
    chance = torch.Generator().manual_seed(0)
    found = 0
    for size, out in sorted(shapes):
        weight = torch.randn(size, out, generator=chance).to(dtype)
        x = torch.randn(TRIED_ROWS[-1], size, generator=chance).to(dtype)
        whole = x @ weight
        unlike = [rows for rows in TRIED_ROWS if not torch.equal(x[-rows:].clone() @ weight, whole[-rows:])]
        found = max(found, *unlike, 0)
    return next((rows for rows in CANDIDATES if rows > found), None)


def pack(
    layers: Sequence[nn.Linear], precision: Precision, gain: Tensor | None = None, order: Tensor | None = None
) -> PackedLinear:
    """Put layers of the same input side by side; all have a bias, or none has.

    Args:
        layers: of the modules.
        precision: of the weights.
        gain: [in], a norm's weights, by which the input is multiplied.
        order: of the outputs; None: as they come.
    """
    weight = torch.cat([layer.weight.detach() for layer in layers])
    bias = torch.cat([layer.bias.detach() for layer in layers]) if layers[0].bias is not None else None
    if gain is not None:
        weight = (weight.float() * gain).to(weight.dtype)
    if order is not None:
        weight, bias = weight[order], None if bias is None else bias[order]
    return PackedLinear(weight, bias, precision)


def norm_gain(weight: Tensor) -> Tensor:
    """float32[width] that the reader of a norm is multiplied by: its weights, and what `PackedStack` leaves out."""
    gain = weight.detach().float()
    return gain * weight.numel() ** 0.5 if weight.device.type == "cpu" else gain


class PackedLayer:
    """One layer of a stack."""

    def __init__(self, layer: Layer, config: StackConfig, precision: Precision) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        turned = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.qkv = pack(turned, precision, norm_gain(layer.input_layernorm.weight), _neighbours(config))
        self.out = pack([attention.o_proj], precision)
        self.gate_up = pack([mlp.gate_proj, mlp.up_proj], precision, norm_gain(layer.post_attention_layernorm.weight))
        self.down = pack([mlp.down_proj], precision)

    @property
    def linears(self) -> tuple[PackedLinear, ...]:
        """Its matrix products."""
        return self.qkv, self.out, self.gate_up, self.down


def _neighbours(config: StackConfig) -> Tensor:
    """Order of q, k and v in which element i of a turned head's first half is followed by element i of the second."""
    heads = torch.arange((config.heads + 2 * config.kv_heads) * config.head_dim).view(-1, config.head_dim)
    turning = config.heads + config.kv_heads
    turned = heads[:turning].view(turning, 2, -1).transpose(1, 2).flatten(1)
    return torch.cat((turned, heads[turning:])).flatten()


class PackedStack:
    """A stack as a list of tensors and one loop; what is attended to is the caller's affair."""

    def __init__(self, stack: QwenStack, precision: Precision) -> None:
        self.config = stack.config
        self.layers = [PackedLayer(layer, stack.config, precision) for layer in stack.layers]  # type: ignore[arg-type]
        self.gain = norm_gain(stack.norm.weight)
        """By which readers of the output multiply it."""
        least = (stack.config.width * stack.config.norm_eps) ** 0.5
        self._least = torch.tensor(least, dtype=stack.norm.weight.dtype, device=stack.norm.weight.device)

    @property
    def linears(self) -> list[PackedLinear]:
        """Matrix products of all layers."""
        return [linear for layer in self.layers for linear in layer.linears]

    def turns(self, positions: Tensor) -> Tensor:
        """Rotary embedding as complex64[positions, 1, head_dim / 2] of int64 positions."""
        config = self.config
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device) / config.head_dim
        angles = positions.float()[:, None] * config.rope_theta**-exponents
        return torch.complex(angles.cos(), angles.sin())[:, None]

    def run(self, x: Tensor, turns: Tensor, attend: Attend) -> Tensor:
        """Run x[rows, width] through all layers and the final norm.

        Args:
            x: input.
            turns: of `turns`, one position per row, or one for all.
            attend: attention, and where keys and values are kept.

        Returns:
            [rows, width], to be multiplied by `gain`.
        """
        config, rows = self.config, len(x)
        turning = config.heads + config.kv_heads
        for number, layer in enumerate(self.layers):
            mixed = layer.qkv(self._normed(x)).float().view(rows, -1, config.head_dim)
            torch.view_as_complex(mixed[:, :turning].view(rows, turning, -1, 2)).mul_(turns)
            x = layer.out.onto(x, attend(number, mixed.to(x.dtype)))
            gate, up = layer.gate_up(self._normed(x)).chunk(2, dim=-1)
            x = layer.down.onto(x, F.silu(gate) * up)
        return self._normed(x)

    def _normed(self, x: Tensor) -> Tensor:
        """Divide x[rows, width] by its root mean square; on a CPU by its length, see `norm_gain`."""
        if x.device.type == "cpu":  # a third of the time of `rms_norm`, which is six calls there
            length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            return x / length.hypot_(self._least)
        return F.rms_norm(x, (self.config.width,), None, self.config.norm_eps)


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
