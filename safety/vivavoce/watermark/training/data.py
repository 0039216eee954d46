"""Speech for training, at 16 kHz, with a share of it made dull, buzzy or hoarse.

A small speech model does not sound like a clean recording; a detector that only ever saw clean recordings would
miss its own mark there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from vivavoce.watermark.networks import SAMPLE_RATE

SUFFIXES = {".flac", ".wav", ".opus", ".ogg", ".mp3"}
HELD_OUT_EVERY = 10  # one of ten files, by a hash of its name, is kept for calibration and evaluation
SECONDS_PER_FILE = 20.0
QUIET = 1e-3  # full scale 1.0: a cut below this loudness is a pause, and drawn again

Wave = NDArray[np.float32]


def speech_files(folders: Sequence[Path], *, held_out: bool) -> list[Path]:
    """The audio files under `folders`, sorted by name: those for training, or those held out."""
    files = sorted((f for d in folders for f in d.rglob("*") if f.suffix in SUFFIXES), key=lambda f: f.name)
    return [f for f in files if (crc32(f.stem.encode()) % HELD_OUT_EVERY == 0) == held_out]


def read_16k(path: Path) -> Wave:
    """The first 20 s of a file, float32[samples], mono, 16 kHz."""
    with soundfile.SoundFile(path) as source:
        wave = source.read(int(SECONDS_PER_FILE * source.samplerate), dtype="float32", always_2d=True).mean(axis=1)
        return np.asarray(soxr.resample(wave, source.samplerate, SAMPLE_RATE), dtype=np.float32)


def _spectral(cut: Wave, rng: np.random.Generator, *, hoarse: bool) -> Wave:
    """Keep the magnitudes, replace the phases: all equal is a buzz at a fixed pitch, random is a whisper."""
    hop = int(rng.integers(80, 200))  # samples: 200 to 80 Hz of buzz
    size = 512
    window = np.hanning(size).astype(np.float32)
    padded = np.pad(cut, (size, size))
    out = np.zeros_like(padded)
    for start in range(0, len(padded) - size, hop):
        magnitude = np.abs(np.fft.rfft(padded[start : start + size] * window))
        magnitude = np.convolve(magnitude, np.ones(5) / 5, mode="same")
        phase = np.exp(2j * np.pi * rng.random(len(magnitude))) if hoarse else (-1.0) ** np.arange(len(magnitude))
        out[start : start + size] += (np.fft.irfft(magnitude * phase) * window).astype(np.float32)
    return out[size:-size]


def _dull(cut: Wave, rng: np.random.Generator) -> Wave:
    spectrum = np.fft.rfft(cut)
    edge = rng.uniform(1_000, 4_000)  # Hz
    frequencies = np.fft.rfftfreq(len(cut), 1 / SAMPLE_RATE)
    fall = np.minimum(1.0, (edge / np.maximum(frequencies, 1.0)) ** rng.uniform(2, 8))
    return np.asarray(np.fft.irfft(spectrum * fall, len(cut)), dtype=np.float32)


def disguise(cut: Wave, rng: np.random.Generator) -> Wave:
    """A cut of speech as it is (6 of 10), or dull, buzzy, hoarse or noisy; at a loudness of -36 to -14 dBFS."""
    draw = rng.random()
    if draw > 0.9:
        cut = _spectral(cut, rng, hoarse=True)
    elif draw > 0.8:
        cut = _spectral(cut, rng, hoarse=False)
    elif draw > 0.7:
        cut = _dull(cut, rng)
    elif draw > 0.6:
        noise = rng.standard_normal(len(cut)).astype(np.float32)
        cut = cut + noise * np.float32(cut.std() * 10 ** (-rng.uniform(5, 25) / 20))
    loudness = 10 ** (rng.uniform(-36, -14) / 20)
    return (cut * (loudness / (float(cut.std()) + 1e-6))).clip(-1, 1).astype(np.float32)


class Speech:
    """All training speech in memory as one int16 array; draws random cuts from it."""

    def __init__(self, files: Sequence[Path]) -> None:
        if not files:
            raise FileNotFoundError("no speech files found")
        waves = [read_16k(f) for f in files]
        self._all = np.concatenate([(w.clip(-1, 1) * 32767).astype(np.int16) for w in waves])

    @property
    def seconds(self) -> float:
        """Length of all the speech held, in seconds."""
        return len(self._all) / SAMPLE_RATE

    def batch(self, size: int, samples: int, rng: np.random.Generator) -> Wave:
        """float32[size, samples] of disguised cuts."""
        return np.stack([disguise(self._cut(samples, rng), rng) for _ in range(size)])

    def _cut(self, samples: int, rng: np.random.Generator) -> Wave:
        cut: Wave = np.zeros(samples, dtype=np.float32)
        for _ in range(10):
            start = int(rng.integers(0, len(self._all) - samples))
            cut = np.asarray(self._all[start : start + samples] / 32768, dtype=np.float32)
            if cut.std() > QUIET:
                break
        return cut
