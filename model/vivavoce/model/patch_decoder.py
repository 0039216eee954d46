"""The patch decoder in one loop: all steps of a patch, with heads and embeddings of only the channels that are due.

Equal to `PatchLM.decode_patches`, which says what is computed; here it is computed fast. Nothing in it waits for the
host and all shapes are fixed by the number of rows, so that a CUDA graph can hold a whole patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.graphs import Recordings
from vivavoce.model.packed import Attend, PackedLinear, PackedStack, Precision, code_table, pack
from vivavoce.model.sampling import Sampler

if TYPE_CHECKING:
    from vivavoce.model.patch_lm import PatchLM


@dataclass(frozen=True)
class _Due:
    """Channels of one vocabulary size that are drawn at one step.

    Attributes:
        heads: logits of all these channels at once.
        zeros: bool[channels, size], true at the ids that can't be drawn.
    """

    channels: tuple[int, ...]
    size: int
    heads: PackedLinear
    zeros: Tensor


class PatchDecoder:
    """Draws patches, one per row."""

    def __init__(self, lm: PatchLM, precision: Precision, recordings: Recordings | None) -> None:
        config = lm.config
        self._recordings = recordings
        self.config = config
        self.stack = PackedStack(lm.local_transformer, precision)
        device = lm.device
        tables = [lm.to_local(table) for table in lm.code_tables()]
        # Only "zero" ids are never drawn, so that their rows are of no matter here.
        self._table = code_table(tables, config.zero_ids)
        self._turns = self.stack.turns(torch.arange(config.decoder_steps, device=device))
        first = list(accumulate(config.code_sizes, initial=0))
        self._steps = [_due(lm, step, precision, self.stack.gain) for step in range(config.decoder_steps)]
        order = [
            (step - config.delays[channel]) * config.channels + channel
            for step, due in enumerate(self._steps)
            for one in due
            for channel in one.channels
        ]
        self._drawing_order = torch.tensor(order, device=device)
        self._reading_order = self._drawing_order.argsort()
        self._first = [
            torch.tensor([first[channel] for one in due for channel in one.channels], device=device)
            for due in self._steps
        ]

    @property
    def linears(self) -> list[PackedLinear]:
        """All matrix products."""
        return [*self.stack.linears, *(one.heads for due in self._steps for one in due)]

    def draw(self, start: Tensor, sampler: Sampler, uniform: Tensor) -> Tensor:
        """Arguments and result as `PatchLM.decode_patches`."""
        if self._recordings is None:
            return self._draw(start, sampler, uniform)

        def act(start: Tensor, uniform: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
            return (self._draw(start, Sampler.of(values, sampler.ways), uniform),)

        return self._recordings.run(sampler.ways, act, (start, uniform, *sampler.values))[0]

    def _draw(self, start: Tensor, sampler: Sampler, uniform: Tensor) -> Tensor:
        config, stack, rows = self.config, self.stack.config, len(start)
        cache = start.new_empty((stack.layers, rows, 2 * stack.kv_heads, config.decoder_steps, stack.head_dim))
        numbers = uniform.flatten(1)[:, self._drawing_order]
        drawn: list[Tensor] = []
        x, done = start, 0
        for step, due in enumerate(self._steps):
            state = self.stack.run(x, self._turns[step : step + 1], self._attend(cache, step))
            fresh = []
            for one in due:
                until = done + len(one.channels)
                logits = one.heads(state).view(rows, -1, one.size)
                fresh.append(sampler.pick(logits, numbers[:, done:until], one.zeros))
                done = until
            if fresh:
                codes = fresh[0] if len(fresh) == 1 else torch.cat(fresh, dim=1)
                drawn.append(codes)
                x = F.embedding(codes + self._first[step], self._table).sum(1)
            else:
                x = torch.zeros_like(start)
        return torch.cat(drawn, dim=1)[:, self._reading_order].view(rows, config.group_size, config.channels)

    def _attend(self, cache: Tensor, step: int) -> Attend:
        """Attention of one step; cache[layers, rows, keys and values, steps, head_dim]."""
        heads, rows = self.stack.config.heads, cache.shape[1]
        seen, written = cache[:, :, :, : step + 1], cache[:, :, :, step].unbind()
        keys, values = seen[:, :, :heads].unbind(), seen[:, :, heads:].unbind()

        def attend(layer: int, qkv: Tensor) -> Tensor:
            written[layer].copy_(qkv[:, heads:])
            return F.scaled_dot_product_attention(qkv[:, :heads, None], keys[layer], values[layer]).view(rows, -1)

        return attend


def _due(lm: PatchLM, step: int, precision: Precision, gain: Tensor) -> list[_Due]:
    """What is drawn at a step, channels of equal size together."""
    config = lm.config
    channels = [channel for channel, delay in enumerate(config.delays) if 0 <= step - delay < config.group_size]
    sizes = sorted({config.code_sizes[channel] for channel in channels}, reverse=True)
    by_size = [[channel for channel in channels if config.code_sizes[channel] == size] for size in sizes]
    return [_due_of_size(lm, equal, size, precision, gain) for equal, size in zip(by_size, sizes, strict=True)]


def _due_of_size(lm: PatchLM, channels: Sequence[int], size: int, precision: Precision, gain: Tensor) -> _Due:
    zeros = F.one_hot(torch.tensor([lm.config.zero_ids[channel] for channel in channels]), size).bool().to(lm.device)
    heads = pack([lm.local_transformer_lm_heads[channel] for channel in channels], precision, gain)  # type: ignore[misc]
    return _Due(tuple(channels), size, heads, zeros)
