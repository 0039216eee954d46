"""The keyed mark put into a wave: gains for tiles, chosen with the sound in view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vivavoce.watermark.keyed.spectrum import (
    BANDS,
    COLUMN,
    COLUMN_FRAMES,
    EDGE_DB,
    Wave,
    contrast,
    decibels,
    pooling,
    spectrum,
    wave_of,
)

STEPS = 4
STEP_DB = 0.3
MOST_DB = 1.0  # the loudest tiles are made louder or softer by no more, at strength 1
NEAR = 6  # columns: a tile is loud or soft by comparison with what is heard within a quarter of a second
ALLOWANCE_SLOPE = (
    0.03  # a tile 10 dB below the loudest nearby is masked by it and may change by 10 ** 0.3 = 2 times as much
)
MOST_ALLOWANCE = 4.0
# Columns of sound on either side that a column's gain depends on: each step looks one tile further, twice (contrast and
# its adjoint); one more for the frames that reach over a column's edge.
REACH = 2 * STEPS + NEAR + 1


def carve(wave: Wave, pattern: NDArray[np.float32], strength: float) -> Wave:
    """The mark for a stretch of sound.

    Args:
        wave: float32[columns * 640] at 16 kHz. The first and last `REACH` columns are context: what is returned
            for them is not what a wave that goes on there would get.
        pattern: float32[columns, BANDS] of -1 and 1.
        strength: Factor on all gains in decibels.

    Returns:
        float32[columns * 640] to be added to `wave`.
    """
    frames = spectrum(wave)
    power = (np.abs(frames) ** 2) @ pooling()
    columns = len(wave) // COLUMN
    tiles = power.reshape(columns, COLUMN_FRAMES, BANDS).mean(axis=1)
    gains = np.repeat(strength * tile_gains(decibels(tiles), pattern), COLUMN_FRAMES, axis=0) @ _spreading()
    return wave_of(frames * (10 ** (gains / 20) - 1), len(wave))


def tile_gains(level: NDArray[np.float32], pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decibels for each tile, float32[columns, BANDS], that make its contrast agree with the pattern.

    A few steps up the gradient of sum(pattern * tanh(contrast / EDGE_DB)), which is what a detector adds up: tiles that
    agree already, and tiles that would cost too much to turn, are left alone.
    """
    allowed = _allowance(level)
    gains = np.zeros_like(level)
    for _ in range(STEPS):
        slope = 1 - np.tanh(contrast(level + gains, 1) / EDGE_DB) ** 2
        gains = gains + allowed * STEP_DB * contrast(pattern * slope, 1)
        gains = np.clip(gains, -allowed * MOST_DB, allowed * MOST_DB)
    return gains


def _allowance(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much more a tile may change than the loudest ones, float32[columns, BANDS] from 1 to `MOST_ALLOWANCE`."""
    loudest = np.pad(level.max(axis=1), NEAR, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(loudest, 2 * NEAR + 1).max(axis=1, keepdims=True)
    return np.asarray(np.minimum(10 ** (ALLOWANCE_SLOPE * (near - level)), MOST_ALLOWANCE), dtype=np.float32)


def _spreading() -> NDArray[np.float32]:
    """float32[BANDS, bins]: a bin's gain is the mean of the bands that it lies in."""
    share = pooling()
    return np.asarray((share / np.maximum(share.sum(axis=1, keepdims=True), 1e-9)).T, dtype=np.float32)
