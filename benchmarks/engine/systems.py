"""The two systems and their work: prompts of real shape, every group a patch, greedy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from vivavoce.model.generation import Decoder
from vivavoce.model.grid import Groups, concatenate, join_grid, speech_groups, text_groups
from vivavoce.model.kv_blocks import blocks_for
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.rows import Continuation
from vivavoce.model.sampling import GREEDY, TaskSampling
from vivavoce.model.script import Script
from vivavoce.model.tokenizer import AudioTokenizer

REFERENCE_SECONDS = 3.2


@dataclass
class Run:
    """What one batch gave. Times are seconds since all requests were there: on a CPU of the processor, for one thread
    has as much of it as its neighbours leave; on a GPU of the clock.

    Attributes:
        codes: int64[rows, patches, group_size, channels].
        first_patch: per row.
        first_audio: per row; the tokenizer's stream holds back what its decoder looks ahead, 40 frames at the 7B shape.
        seconds: until the last patch, without the making of sound.
    """

    codes: Tensor
    first_patch: list[float]
    first_audio: list[float]
    seconds: float


@dataclass
class Watch:
    """Notes when each row had its first patch and its first sound."""

    tokenizer: AudioTokenizer
    sounding: float = 0.0
    began: float = 0.0
    first_patch: dict[int, float] = field(default_factory=dict)
    first_audio: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self._now()

    def look(self, row: int, patches: list[Tensor]) -> None:
        """After each step, for each row: its patches int64[group_size, channels] so far."""
        if row not in self.first_patch:
            self.first_patch[row] = self._now() - self.began
        if row not in self.first_audio and len(patches) * len(patches[0]) > self.tokenizer.right_context:
            before = self._now()
            self.tokenizer.decode_chunk(torch.cat(patches).T, self.tokenizer.stream()).cpu()
            self.first_audio[row] = self._now() - self.began
            self.sounding += self._now() - before

    def run(self, codes: Tensor) -> Run:
        """The finished record."""
        seconds = self._now() - self.began - self.sounding
        return Run(codes, list(self.first_patch.values()), list(self.first_audio.values()), seconds)

    def _now(self) -> float:
        return time.process_time() if self.tokenizer.device.type == "cpu" else time.perf_counter()


def prompts(lm: PatchLM, rows: int, frame_rate: float) -> list[Groups]:
    """One prompt per row, of equal length: a few ids and random codes of a reference clip."""
    config, special = lm.config, lm.special
    frames = int(REFERENCE_SECONDS * frame_rate)
    made = []
    for row in range(rows):
        chance = torch.Generator().manual_seed(row)
        codes = torch.stack([torch.randint(0, size, (frames,), generator=chance) for size in config.zero_ids])
        speech = speech_groups(codes, config, special.empty)
        before, after = [special.sosp], [special.eosp, special.sostm]
        made.append(concatenate([text_groups(before, config), speech, text_groups(after, config)]))
    return made


def engine_decoder(packed: PackedLM, asked: list[Groups], patches: int) -> Decoder:
    """A decoder with room for just these."""
    return Decoder(packed, len(asked), sum(blocks_for(len(prompt) + patches) for prompt in asked))


def run_engine(decoder: Decoder, tokenizer: AudioTokenizer, asked: list[Groups], patches: int) -> Run:
    """Let the engine's decoder run the batch to its end."""
    watch, model = Watch(tokenizer), decoder.model
    script = Script(text_groups([model.special.empty] * patches, model.config), torch.ones(patches, dtype=torch.bool))
    greedy = TaskSampling(GREEDY, GREEDY)
    rows = [
        decoder.join(Continuation(join_grid(prompt), patches, greedy, frozenset(), script=script)) for prompt in asked
    ]
    while decoder.rows:
        for row in decoder.step():
            if row.error is not None:
                raise row.error
        for number, row in enumerate(rows):
            if row.codes:
                watch.look(number, row.codes)
    return watch.run(torch.stack([torch.stack(row.codes) for row in rows]))


class Baseline(Protocol):
    """What `eager.EagerLM` is, which needs `transformers`."""

    def start(self, prompts: list[Groups]) -> None:
        """Take in prompts of equal length."""

    def step(self) -> Tensor:
        """The next patch of every row."""


def run_eager(eager: Baseline, tokenizer: AudioTokenizer, asked: list[Groups], patches: int) -> Run:
    """The same by `transformers`."""
    watch, made = Watch(tokenizer), []
    eager.start(asked)
    for _ in range(patches):
        made.append(eager.step().cpu())
        for number in range(len(asked)):
            watch.look(number, [step[number] for step in made])
    return watch.run(torch.stack(made, dim=1))


System = Callable[[list[Groups], int], Run]
