"""Speech clips for training: folders of audio files, cut at random places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

SUFFIXES = {".flac", ".ogg", ".opus", ".wav"}
LEVEL = 0.06  # root mean square that every file is brought to, before a random gain
GAINS = (0.4, 2.0)
ROUNDED = 0.5  # share of crops with the noise floor of 16-bit files


class Clips:
    """Random crops out of all audio files below some folders; files are read once and kept in memory.

    Half of the crops are rounded to 16 bits. Rounding lifts the log-mel of silent bands by several units, above all
    above 8 kHz in speech that was recorded at 16 kHz: a model that knows only one of the two floors fails on the other.
    """

    def __init__(self, folders: Sequence[Path], sample_rate: int, seed: int) -> None:
        found = [sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES) for folder in folders]
        # Each folder gets an equal share, however many files it holds.
        self.groups = [group for group in found if group]
        if not self.groups:
            raise FileNotFoundError(f"no audio files in {', '.join(map(str, folders))}")
        self.sample_rate = sample_rate
        self.random = np.random.default_rng(seed)
        self._read: dict[Path, NDArray[np.float32]] = {}

    def batch(self, rows: int, samples: int) -> Tensor:
        """Crops float32[rows, samples]; short files are padded with silence."""
        return torch.from_numpy(np.stack([self._crop(samples) for _ in range(rows)]))

    def _crop(self, samples: int) -> NDArray[np.float32]:
        group = self.groups[self.random.integers(len(self.groups))]
        wave = self._wave(group[self.random.integers(len(group))])
        start = int(self.random.integers(max(1, len(wave) - samples + 1)))
        crop = wave[start : start + samples] * np.exp(self.random.uniform(*np.log(GAINS)))
        crop = np.clip(np.pad(crop, (0, samples - len(crop))), -1, 1)
        if self.random.random() < ROUNDED:
            crop = np.round(crop * 32767) / 32767
        return np.asarray(crop, dtype=np.float32)

    def _wave(self, path: Path) -> NDArray[np.float32]:
        if path not in self._read:
            wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
            mono = soxr.resample(wave.mean(1), rate, self.sample_rate)
            mono *= LEVEL / max(float(np.sqrt(np.mean(np.square(mono)))), 1e-4)
            self._read[path] = mono.astype(np.float32)
        return self._read[path]
