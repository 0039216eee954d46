"""The whole language model laid out for generation: prompts in parts, steps of many rows, keys and values in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.graphs import Recording, Recordings
from vivavoce.model.grid import Groups, concatenate
from vivavoce.model.kv_blocks import BlockPool, Places, RowCache
from vivavoce.model.lm_config import LMConfig
from vivavoce.model.packed import PackedStack, Precision, attend_within, code_table, least_rows, pack
from vivavoce.model.patch_decoder import PatchDecoder

if TYPE_CHECKING:
    from vivavoce.model.patch_lm import PatchLM


class PackedLM:
    """A `PatchLM` for generation; later changes of the module's weights do not reach it.

    Attributes:
        patches: the patch decoder.
        least_rows: of a call, so that its rows do not depend on one another; None: only calls of equal sizes are alike.

    Args:
        lm: the modules.
        precision: of weights and activations.
        recording: how steps and patches are called; None: as graphs on a CUDA device, not recorded elsewhere.
    """

    def __init__(self, lm: PatchLM, precision: Precision = "full", recording: Recording | None = None) -> None:
        self._recording: Recording = recording or ("graphs" if lm.device.type == "cuda" else "off")
        self.config: LMConfig = lm.config
        self.special = lm.special
        self.device = lm.device
        self.backbone = PackedStack(lm.model, precision)
        self.encoder = PackedStack(lm.input_local_transformer, precision)
        self.patches = PatchDecoder(lm, precision, self._recordings())
        self._text = lm.model.embed_tokens.weight.detach()
        self._codes = code_table(lm.code_tables(), lm.config.zero_ids)
        sizes = torch.tensor((0, *lm.config.code_sizes[:-1]), device=lm.device)
        self._first = sizes.cumsum(0)
        self._downcast = pack([lm.speech_group_downcast], precision, self.encoder.gain.repeat(lm.config.group_size))
        self._heads = pack([lm.lm_head, lm.hidden_states_downcast], precision, self.backbone.gain)
        frames = torch.arange(lm.config.group_size, device=lm.device)
        self._frame_turns = self.encoder.turns(frames)
        self._turns = self.backbone.turns(torch.arange(lm.config.backbone.context, device=lm.device))
        self._within = attend_within(lm.config.encoder, lm.config.group_size, causal=not lm.config.encoder_sees_all)
        linears = [*self.backbone.linears, *self.encoder.linears, *self.patches.linears, self._downcast, self._heads]
        self.least_rows = least_rows(linears)

    @property
    def element_size(self) -> int:
        """Bytes of a number in the cache."""
        return self._text.element_size()

    def pool(self, blocks: int) -> BlockPool:
        """A store of so many blocks for keys and values."""
        return BlockPool(self.config.backbone, blocks, self._text, self._recordings())

    def prefill(self, pool: BlockPool, parts: Sequence[tuple[Groups, RowCache]]) -> tuple[Tensor, Tensor]:
        """Take in the next part of each prompt; logits[parts, vocab] and patch starts[parts, width] after each.

        The caches' lengths are the caller's to raise, as with `step`.
        """
        count, least = len(parts), self.least_rows or 1
        parts = list(parts) + [parts[0]] * max(0, least - count)  # the same again does no harm
        lengths = [(cache, len(groups)) for groups, cache in parts]
        turns = torch.cat([self._turns[cache.length : cache.length + new] for cache, new in lengths])
        groups = concatenate([groups for groups, _ in parts])
        hidden = self.backbone.run(self._embed(groups), turns, pool.attend_prompts(lengths))
        ends = torch.tensor([new for _, new in lengths]).cumsum(0) - 1
        logits, start = self._read(hidden[ends.to(hidden.device)])
        return logits[:count], start[:count]

    def step(self, pool: BlockPool, groups: Groups, caches: Sequence[RowCache]) -> tuple[Tensor, Tensor]:
        """Take in one group of each row; logits[rows, vocab] and patch starts[rows, width].

        The caches' lengths are the caller's to raise: until then, the same step can be taken again.
        """
        at = pool.places(caches)
        if pool.recordings is None:
            return self._continue(pool, self._embed(groups), at)

        def act(text: Tensor, codes: Tensor, *places: Tensor) -> tuple[Tensor, Tensor]:
            embedded = F.embedding(text, self._text)
            speech = self._embed_patches(codes)  # of all rows: which of them speak is the host's to know
            embedded = torch.where((text == self.special.empty)[:, None], speech, embedded)
            return self._continue(pool, embedded, Places(*places))

        inputs = (groups.text.to(self.device), groups.codes.to(self.device), *at.tensors)
        logits, start = pool.recordings.run("step", act, inputs)
        return logits, start

    def _continue(self, pool: BlockPool, embedded: Tensor, at: Places) -> tuple[Tensor, Tensor]:
        return self._read(self.backbone.run(embedded, self._turns[at.position], pool.attend(at)))

    def _recordings(self) -> Recordings | None:
        return None if self._recording == "off" else Recordings(capture=self._recording == "graphs")

    def _read(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        heads = self._heads(hidden)
        return heads[:, : self.config.vocab], heads[:, self.config.vocab :]

    def _embed(self, groups: Groups) -> Tensor:
        """Input of the backbone, as `PatchLM.embed_groups`."""
        is_speech = groups.text == self.special.empty
        spoken: list[int] = is_speech.nonzero()[:, 0].tolist()
        text = F.embedding(groups.text.to(self.device), self._text)
        if not spoken:
            return text
        count = len(spoken)
        spoken += spoken[:1] * max(0, (self.least_rows or len(groups)) - count)
        speech = self._embed_patches(groups.codes[spoken].to(self.device))
        text[spoken[:count]] = speech[:count]
        return text

    def _embed_patches(self, codes: Tensor) -> Tensor:
        frames = F.embedding(codes + self._first, self._codes).sum(2).flatten(0, 1)
        turns = self._frame_turns.repeat(len(codes), 1, 1)
        return self._downcast(self.encoder.run(frames, turns, self._within).view(len(codes), -1))
