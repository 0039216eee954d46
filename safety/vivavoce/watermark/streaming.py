"""Both marks put into a stream of samples, with state: chunks give what the whole would."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from vivavoce.watermark import learned
from vivavoce.watermark.code import Code
from vivavoce.watermark.keyed.embedding import REACH, carve
from vivavoce.watermark.keyed.layout import COLUMNS, GROUP_COLUMNS, Layout
from vivavoce.watermark.keyed.spectrum import COLUMN
from vivavoce.watermark.level import HOP
from vivavoce.watermark.listening import check
from vivavoce.watermark.networks import SAMPLE_RATE, Networks
from vivavoce.watermark.weights import Settings

Samples = NDArray[np.float32]

WHOLE_BLOCK = 250 * COLUMN  # samples (10 s) that are marked in one go where all of the sound is there
STREAM_BLOCK = 12 * COLUMN  # samples (0.48 s) where it is still being made
KEYED_CONTEXT = (REACH + 1) * COLUMN  # samples on either side that the keyed mark depends on
BEFORE = KEYED_CONTEXT + learned.BEFORE  # samples of context before a block ...
AFTER = KEYED_CONTEXT + 10 * HOP  # ... and after it; the learned mark's loudness looks 20 ms ahead


@dataclass
class MarkStream:
    """Marks one sound as it comes. What `feed` returns lags by up to `STREAM_BLOCK` + `AFTER` (1.2 s)."""

    networks: Networks
    settings: Settings
    device: str
    layout: Layout
    code: Code
    sample_rate: int
    identity: int
    strength: float
    block: int = STREAM_BLOCK
    _wave: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    _first: int = 0  # sample at 16 kHz that `_wave` begins with
    _done: int = 0  # samples at 16 kHz that are marked
    _waiting: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    _marks: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.float32))

    def __post_init__(self) -> None:
        bits = self.code.bits(self.identity)
        self._pattern = self.layout.pattern(bits)
        self._messages = self.layout.messages(bits)
        self._start = self.layout.start(self.identity)
        same = self.sample_rate == SAMPLE_RATE
        self._down = None if same else soxr.ResampleStream(self.sample_rate, SAMPLE_RATE, 1)
        self._up = None if same else soxr.ResampleStream(SAMPLE_RATE, self.sample_rate, 1)

    def feed(self, samples: Samples) -> Samples:
        """Take float32[n] more; returns the marked samples that are ready, in order.

        Raises:
            MarkError: bad_samples.
        """
        check(samples, self.sample_rate)
        self._waiting = np.concatenate([self._waiting, samples])
        self._wave = np.concatenate([self._wave, self._down.resample_chunk(samples) if self._down else samples])
        while self._first + len(self._wave) >= self._done + self.block + AFTER:
            self._add(self._mark(self._done + self.block), last=False)
        return self._ready()

    def finish(self) -> Samples:
        """Return the rest."""
        nothing = np.zeros(0, dtype=np.float32)
        if self._down:
            self._wave = np.concatenate([self._wave, self._down.resample_chunk(nothing, last=True)])
        end = self._first + len(self._wave)
        while self._done < end:
            self._add(self._mark(min(end, self._done + self.block)), last=False)
        self._add(nothing, last=True)
        self._marks = np.pad(self._marks, (0, max(0, len(self._waiting) - len(self._marks))))
        return self._ready()

    def _add(self, mark: Samples, *, last: bool) -> None:
        there = self._up.resample_chunk(mark, last=last) if self._up else mark
        self._marks = np.concatenate([self._marks, there])

    def _ready(self) -> Samples:
        count = min(len(self._waiting), len(self._marks))
        marked = self._waiting[:count] + self._marks[:count]
        self._waiting, self._marks = self._waiting[count:], self._marks[count:]
        return np.asarray(marked, dtype=np.float32)

    def _mark(self, end: int) -> Samples:
        """The marks from the last sample done up to `end` (both at 16 kHz); forgets what is no longer needed."""
        start = self._done
        wave = self._wave[max(0, start - BEFORE) - self._first : end + AFTER - self._first]
        first = max(0, start - BEFORE)
        mark = self._learned(wave, first) * np.float32(self.strength)
        total = mark + self._keyed(wave + mark, first, start, end)
        kept = total[start - first : end - first]
        self._done = end
        self._wave = self._wave[max(0, end - BEFORE) - self._first :]
        self._first = max(0, end - BEFORE)
        return np.asarray(kept, dtype=np.float32)

    def _learned(self, wave: Samples, first: int) -> Samples:
        hop = self.networks.size.hop
        columns = (first + hop * np.arange(-(-len(wave) // hop))) // COLUMN
        groups = (self._start + columns) % COLUMNS // GROUP_COLUMNS
        messages = torch.from_numpy(self._messages[groups].astype(np.int64)).to(self.device).unsqueeze(0)
        sound = torch.from_numpy(wave).to(self.device).unsqueeze(0)
        return np.asarray(learned.mark_of(self.networks, sound, messages, self.settings.level_db)[0].cpu().numpy())

    def _keyed(self, wave: Samples, first: int, start: int, end: int) -> Samples:
        """The keyed mark for `wave`, which begins at sample `first`; right between `start` and `end`."""
        begin = start - KEYED_CONTEXT
        finish = end + -end % COLUMN + KEYED_CONTEXT
        heard = np.zeros(finish - begin, dtype=np.float32)
        part = wave[max(0, begin - first) : finish - first]
        offset = max(0, first - begin)
        heard[offset : offset + len(part)] = part
        columns = np.arange(begin // COLUMN, finish // COLUMN)
        carved = carve(heard, self._pattern[(self._start + columns) % COLUMNS], self.strength)
        mark = np.zeros_like(wave)
        mark[start - first : end - first] = carved[start - begin : end - begin]
        return mark
