"""The whole language model laid out for generation: prompts in chunks, steps of many rows, each with its own cache.

Every row keeps its keys and values in a tensor of its own that is as long as the row can become: nothing is copied
when rows join, grow or leave, and a row attends to exactly its own positions, so that its numbers do not depend on how
long its neighbours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.grid import Groups
from vivavoce.model.lm_config import LMConfig
from vivavoce.model.packed import Attend, PackedStack, Precision, attend_within, code_table, pack
from vivavoce.model.patch_decoder import PatchDecoder

if TYPE_CHECKING:
    from vivavoce.model.patch_lm import PatchLM


class RowCache:
    """Keys and values of one row.

    Attributes:
        layers: per layer keys and values, each [1, kv_heads, capacity, head_dim].
        length: positions written.
    """

    def __init__(self, stack: PackedStack, capacity: int, like: Tensor) -> None:
        config = stack.config
        store = like.new_empty((config.layers, 2, 1, config.kv_heads, capacity, config.head_dim))
        self.layers = [(layer[0], layer[1]) for layer in store]
        self.length = 0


class PackedLM:
    """A `PatchLM` for generation; later changes of the module's weights do not reach it."""

    def __init__(self, lm: PatchLM, precision: Precision = "full") -> None:
        self.config: LMConfig = lm.config
        self.special = lm.special
        self.device = lm.device
        self.backbone = PackedStack(lm.model, precision)
        self.encoder = PackedStack(lm.input_local_transformer, precision)
        self.patches = PatchDecoder(lm, precision)
        self._text = lm.model.embed_tokens.weight.detach()
        self._codes = code_table(lm.code_tables(), lm.config.zero_ids)
        sizes = torch.tensor((0, *lm.config.code_sizes[:-1]), device=lm.device)
        self._first = sizes.cumsum(0)
        self._downcast = pack([lm.speech_group_downcast], precision)
        self._heads = pack([lm.lm_head, lm.hidden_states_downcast], precision)
        frames = torch.arange(lm.config.group_size, device=lm.device)
        self._frame_turns = self.encoder.turns(frames)
        self._turns = self.backbone.turns(torch.arange(lm.config.backbone.context, device=lm.device))
        self._within = attend_within(lm.config.encoder, lm.config.group_size, causal=not lm.config.encoder_sees_all)

    def cache(self, capacity: int) -> RowCache:
        """A cache for a row of at most so many groups."""
        return RowCache(self.backbone, capacity, self._text)

    def prefill(self, groups: Groups, cache: RowCache) -> tuple[Tensor, Tensor]:
        """Take in the next groups of one row's prompt; logits[vocab] and patch start[width] after the last."""
        past, new = cache.length, len(groups)
        turns = self._turns[past : past + new]
        hidden = self.backbone.run(self._embed(groups, many=True), turns, self._attend_prompt(cache, new), many=True)
        cache.length += new
        logits, start = self._split(self._heads.many(hidden[-1:]))
        return logits[0], start[0]

    def step(self, groups: Groups, caches: Sequence[RowCache]) -> tuple[Tensor, Tensor]:
        """Take in one group of each row; logits[rows, vocab] and patch starts[rows, width].

        The caches' lengths are the caller's to raise: until then, the same step can be taken again.
        """
        positions = [cache.length for cache in caches]
        turns = self._turns[positions]
        hidden = self.backbone.run(self._embed(groups, many=False), turns, self._attend_rows(caches), many=False)
        return self._split(self._heads.few(hidden))

    def _split(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        return heads[:, : self.config.vocab], heads[:, self.config.vocab :].to(self._text.dtype)

    def _embed(self, groups: Groups, *, many: bool) -> Tensor:
        """Input of the backbone, as `PatchLM.embed_groups`."""
        is_speech = groups.text == self.special.empty
        spoken: list[int] = is_speech.nonzero()[:, 0].tolist()
        text = F.embedding(groups.text.to(self.device), self._text)
        if not spoken:
            return text
        speech = self._embed_patches(groups.codes[spoken].to(self.device), many=many)
        if len(spoken) == len(groups):
            return speech
        text[spoken] = speech
        return text

    def _embed_patches(self, codes: Tensor, *, many: bool) -> Tensor:
        frames = F.embedding(codes + self._first, self._codes).sum(2).flatten(0, 1)
        turns = self._frame_turns.repeat(len(codes), 1, 1)
        encoded = self.encoder.run(frames, turns, self._within, many=many).view(len(codes), -1)
        return (self._downcast.many if many else self._downcast.few)(encoded).to(self._text.dtype)

    def _attend_prompt(self, cache: RowCache, new: int) -> Attend:
        config, past = self.backbone.config, cache.length
        end, turning, grouped = past + new, config.heads + config.kv_heads, config.heads != config.kv_heads
        mask = None
        if past:
            mask = torch.ones((new, end), dtype=torch.bool, device=self.device).tril(past)

        def attend(layer: int, qkv: Tensor) -> Tensor:
            positions = qkv.transpose(0, 1)[None]
            keys, values = (each[:, :, :end] for each in cache.layers[layer])
            keys[:, :, past:], values[:, :, past:] = positions[:, config.heads : turning], positions[:, turning:]
            mixed = F.scaled_dot_product_attention(
                positions[:, : config.heads], keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
            )
            return mixed[0].transpose(0, 1).flatten(1)

        return attend

    def _attend_rows(self, caches: Sequence[RowCache]) -> Attend:
        config = self.backbone.config
        grouped, turning = config.heads != config.kv_heads, config.heads + config.kv_heads

        def attend(layer: int, qkv: Tensor) -> Tensor:
            mixed = []
            for row, cache in enumerate(caches):
                keys, values = cache.layers[layer]
                end = cache.length + 1
                keys[0, :, cache.length] = qkv[row, config.heads : turning]
                values[0, :, cache.length] = qkv[row, turning:]
                query = qkv[row, : config.heads].view(1, config.heads, 1, -1)
                mixed.append(
                    F.scaled_dot_product_attention(query, keys[:, :, :end], values[:, :, :end], enable_gqa=grouped)
                )
            return torch.cat(mixed).view(len(caches), -1)

        return attend
