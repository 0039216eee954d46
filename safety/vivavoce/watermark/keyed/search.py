"""The pilot looked for: at which column the pattern begins, and whether the sound was sped up, stretched or pitched.

A window of sound is compared with the pilot at every offset, for every warp that is tried. The score of an unmarked
sound at one place is a sum of random signs, so the probability that any of `places` scores reaches z is at most
places * bound(z), whatever the sound (`vivavoce.watermark.code.bound` and the union bound): `evidence` says that as a
power of ten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from math import log, log10

import numpy as np
from numpy.typing import NDArray

from vivavoce.watermark.code import bound
from vivavoce.watermark.keyed.layout import COLUMNS, Layout
from vivavoce.watermark.keyed.spectrum import (
    BANDS,
    COLUMN_FRAMES,
    EDGE_DB,
    QUIETEST,
    Power,
    contrast,
    decibels,
    pooling,
)

PLACES = COLUMNS * COLUMN_FRAMES  # offsets that one warp is looked for at
WARP_STEP = 0.004  # a warp that is wrong by half of this moves the ends of a 10 s window by 10 ms
PITCH_STEP = 0.012
MOST_WARP = 1.26

_PERIOD = PLACES  # frames


@dataclass(frozen=True)
class Warp:
    """What was done to a sound's time and frequency axes.

    Attributes:
        tempo: How many times faster it goes.
        pitch: How many times higher it is.
    """

    tempo: float = 1.0
    pitch: float = 1.0


AS_MADE = Warp()


@dataclass(frozen=True)
class Match:
    """Where a window agrees best with the pilot.

    Attributes:
        warp: Under which warp.
        first: Frame of the pattern (0 <= first < 768, 10 ms each) that the window begins with.
        z: Standard deviations above what an unmarked sound gives in the mean.
    """

    warp: Warp
    first: int
    z: float


def evidence(z: float, places: int) -> float:
    """-log10 of the bound on the probability that an unmarked sound gives z at any of `places`; may be below 0."""
    return -log10(max(bound(z), 1e-300)) - log10(places)


@cache
def warps() -> tuple[Warp, ...]:
    """Everything that is tried: faster or slower (resampled), stretched at its pitch, and pitched at its tempo."""
    steps = np.exp(np.arange(-log(MOST_WARP), log(MOST_WARP), WARP_STEP))
    pitches = np.exp(np.arange(-log(MOST_WARP), log(MOST_WARP), PITCH_STEP))
    return (
        AS_MADE,
        *(Warp(float(f), float(f)) for f in steps),
        *(Warp(float(f), 1.0) for f in steps),
        *(Warp(1.0, float(f)) for f in pitches),
    )


@lru_cache(maxsize=1024)
def nearby(warp: Warp) -> tuple[Warp, ...]:
    """Warps around one of those that were tried: a step on and between the steps."""
    halves = np.arange(-2, 3) / 2
    tempos = [Warp(warp.tempo * float(1 + h * WARP_STEP), warp.pitch) for h in halves]
    speeds = [Warp(warp.tempo * float(1 + h * WARP_STEP), warp.pitch * float(1 + h * WARP_STEP)) for h in halves]
    pitches = [Warp(warp.tempo, warp.pitch * float(1 + h * PITCH_STEP)) for h in 2 * halves]
    return tuple(dict.fromkeys(one for one in (*tempos, *speeds, *pitches) if one != warp))


def standing_out(power: Power, warp: Warp, *, noisy: bool = False) -> NDArray[np.float32]:
    """float32[rows, BANDS] in [-1, 1]: for every 10 ms of the sound as it was made, the tile that begins there.

    Args:
        power: float32[frames, bins], what was received.
        warp: What is thought to have been done to it.
        noisy: Trust tiles less the nearer they are to their band's noise floor (its lowest tenth).
    """
    return _taken(_every_row(power, warp.pitch, _length(warp), noisy=noisy), warp)


def _length(warp: Warp) -> int:
    """Frames of a column as it was received."""
    return max(2, round(COLUMN_FRAMES / warp.tempo))


def _every_row(power: Power, pitch: float, length: int, *, noisy: bool) -> NDArray[np.float32]:
    """float32[frames, BANDS]: what `standing_out` takes its rows from, for all tempos with columns of this length."""
    pooled = power @ pooling(pitch)
    sums = np.concatenate([np.zeros((1, BANDS)), np.cumsum(pooled, axis=0, dtype=np.float64)])
    last = np.minimum(np.arange(len(pooled)) + length, len(pooled))
    tiles = (sums[last] - sums[:-1]) / (last - np.arange(len(pooled)))[:, None]
    tiles = np.maximum(tiles, QUIETEST)
    rows = np.tanh(contrast(decibels(tiles.astype(np.float32)), length) / EDGE_DB)
    if noisy:
        rows = rows * tiles / (tiles + 3 * np.quantile(tiles, 0.1, axis=0))
    return np.asarray(rows, dtype=np.float32)


def _taken(rows: NDArray[np.float32], warp: Warp) -> NDArray[np.float32]:
    """One row for every 10 ms of the sound as it was made."""
    taken = np.round(np.arange(0, len(rows), 1 / warp.tempo)).astype(np.intp)
    return rows[np.minimum(taken, len(rows) - 1)]


def best_place(rows: NDArray[np.float32], layout: Layout) -> tuple[int, float]:
    """The pattern's frame that `rows` (of `standing_out`) begin with, and the z of it."""
    folded = np.zeros((_PERIOD, BANDS), dtype=np.float32)
    for start in range(0, len(rows), _PERIOD):
        part = rows[start : start + _PERIOD]
        folded[: len(part)] += part
    # [phase, slot, band]: only every fourth row lies on the columns of one phase.
    slots = folded.reshape(COLUMNS, COLUMN_FRAMES, BANDS).transpose(1, 2, 0)
    scores = _correlate(slots, layout.pilot_spectrum)
    energy = _correlate(slots**2, layout.pilot_place_spectrum)
    z = scores / np.sqrt(np.maximum(energy, 1e-6))
    phase, shift = np.unravel_index(int(np.argmax(z)), z.shape)
    # Row `phase` is the first row of column `shift`, so row 0 lies `phase` frames before it.
    return int((shift * COLUMN_FRAMES - phase) % _PERIOD), float(z[phase, shift])


def _correlate(slots: NDArray[np.float32], pattern: NDArray[np.complex64]) -> NDArray[np.float32]:
    """float32[phases, COLUMNS]: sum of slots[slot] * pattern[slot + shift] for each shift, circular."""
    product = (np.conj(np.fft.rfft(slots, axis=-1)) * pattern).sum(axis=1)
    return np.asarray(np.fft.irfft(product, COLUMNS, axis=-1))


def look(power: Power, layout: Layout, tried: Iterable[Warp], *, noisy: bool = False) -> Match:
    """The best match of a window, float32[frames, bins], over all `tried` warps."""
    best = Match(AS_MADE, 0, float("-inf"))
    rows, made_for = None, None
    for warp in tried:
        # Neighbours among the stretched ones differ in what is taken only.
        if rows is None or made_for != (warp.pitch, _length(warp)):
            rows, made_for = _every_row(power, warp.pitch, _length(warp), noisy=noisy), (warp.pitch, _length(warp))
        first, z = best_place(_taken(rows, warp), layout)
        if z > best.z:
            best = Match(warp, first, z)
    return best
