"""The spectrum that the keyed mark lives in: power in bands every 10 ms, and how much a tile stands out.

All at 16 kHz. A frame is 32 ms long and begins every 10 ms; frame i is centred on sample 160 i. A column is four
frames, a tile one column in one band.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vivavoce.watermark.networks import SAMPLE_RATE

HOP = 160  # samples: 10 ms
FRAME = 512  # samples: 32 ms
COLUMN_FRAMES = 4
COLUMN = COLUMN_FRAMES * HOP  # samples: 40 ms

_LOWEST, _HIGHEST = 200.0, 7_300.0  # Hz
_NARROWEST, _RELATIVE = 160.0, 0.06  # a band is 160 Hz or a semitone wide, whichever is more
QUIETEST = 1e-9  # power in one bin below which nothing is told apart (a full-scale sine has about 1e4)
EDGE_DB = 4.0  # a tile that stands out by more than this hardly counts for more

Wave = NDArray[np.float32]
Spectrum = NDArray[np.complex64]
Power = NDArray[np.float32]


def _edges() -> NDArray[np.float64]:
    edges = [_LOWEST]
    while edges[-1] < _HIGHEST:
        edges.append(edges[-1] + max(_NARROWEST, _RELATIVE * edges[-1]))
    return np.array(edges)


BANDS = len(_edges()) - 1
WINDOW = np.sqrt(np.hanning(FRAME + 1)[:FRAME]).astype(np.float32)  # used twice, so that overlapping frames add up


@lru_cache(maxsize=1024)
def pooling(pitch: float = 1.0) -> NDArray[np.float32]:
    """float32[FRAME / 2 + 1, BANDS]: the share of each bin in each band's mean, for bands shifted up by `pitch`."""
    width = SAMPLE_RATE / FRAME
    centres = np.arange(FRAME // 2 + 1)[:, None] * width
    edges = _edges() * pitch
    upper = np.minimum(centres + width / 2, edges[None, 1:])
    lower = np.maximum(centres - width / 2, edges[None, :-1])
    overlap = np.clip(upper - lower, 0, None)
    return np.asarray(overlap / np.maximum(overlap.sum(axis=0), 1e-9), dtype=np.float32)


def spectrum(wave: Wave) -> Spectrum:
    """complex64[frames, FRAME / 2 + 1] of float32[samples]; one frame for every 160 samples begun."""
    padded = np.pad(wave, (FRAME // 2, FRAME // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[: len(wave) : HOP]
    return np.asarray(np.fft.rfft(frames * WINDOW, axis=1), dtype=np.complex64)


def wave_of(frames: Spectrum, samples: int) -> Wave:
    """The inverse of `spectrum`, float32[samples]: overlapping frames added up (exact where two or more overlap)."""
    pieces = np.fft.irfft(frames, FRAME, axis=1).astype(np.float32) * WINDOW
    length = (len(frames) - 1) * HOP + FRAME
    total, norm = np.zeros(length, dtype=np.float32), np.zeros(length, dtype=np.float32)
    for place in range(0, FRAME, HOP):  # all frames' pieces of one hop at a time: a few additions of whole arrays
        part = pieces[:, place : place + HOP]
        width = part.shape[1]
        rows = np.zeros((len(frames), HOP), dtype=np.float32)
        rows[:, :width] = part
        squares = np.zeros(HOP, dtype=np.float32)
        squares[:width] = WINDOW[place : place + HOP] ** 2
        end = min(length, place + rows.size)
        total[place:end] += rows.reshape(-1)[: end - place]
        norm[place:end] += np.tile(squares, len(frames))[: end - place]
    return np.asarray((total / np.maximum(norm, 1e-3))[FRAME // 2 : FRAME // 2 + samples], dtype=np.float32)


def decibels(power: Power) -> NDArray[np.float32]:
    """10 log10 of power, floored at `QUIETEST`."""
    return np.asarray(10 * np.log10(power + QUIETEST), dtype=np.float32)


def contrast(level: NDArray[np.float32], lag: int) -> NDArray[np.float32]:
    """How many decibels a tile stands out from its neighbours in time (at `lag` rows) and in frequency.

    Linear, and but for the edges its own adjoint, which the embedder's gradient makes use of.

    Args:
        level: float32[rows, BANDS] in dB.
        lag: Rows from one tile to the next in time.
    """
    return _minus_neighbours(_minus_neighbours(level, lag), 1, axis=1)


def _minus_neighbours(level: NDArray[np.float32], lag: int, axis: int = 0) -> NDArray[np.float32]:
    at, last = np.arange(level.shape[axis]), level.shape[axis] - 1
    before = np.take(level, np.maximum(at - lag, 0), axis=axis)
    after = np.take(level, np.minimum(at + lag, last), axis=axis)
    return np.asarray(level - (before + after) / 2, dtype=np.float32)
