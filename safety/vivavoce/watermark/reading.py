"""From what the detector saw in each 10 ms to a verdict, a message and segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME_SECONDS = 0.01
WINDOW = 100  # frames: presence is judged over 1 s
SMOOTH = 25  # frames: segment borders are drawn on a quarter of a second
SHORTEST = 25  # frames: shorter segments are no evidence

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """A stretch that carries the mark: seconds from the beginning, and its mean presence."""

    start_s: float
    end_s: float
    score: float


@dataclass(frozen=True)
class Detection:
    """What was found in a sound.

    Attributes:
        found: Whether `score` reaches `threshold`.
        score: Presence in [0, 1] over the second of the sound where it is highest.
        message: The bits read where the mark is present; None where none was found.
        message_confidence: Probability of the least certain of these bits, in [0.5, 1]; 0 where none was found.
        segments: Where the mark is; empty where none was found.
        threshold: What the score was measured against, from the calibration of the weights.
    """

    found: bool
    score: float
    message: int | None
    message_confidence: float
    segments: tuple[Segment, ...]
    threshold: float


def read(frames: Frames, threshold: float, bit_temperature: float) -> Detection:
    """Judge float32[frames, 1 + bits], as the detector gives them for 10 ms each."""
    presence = frames[:, 0]
    score = float(_running_mean(presence, WINDOW).max())
    if score < threshold:
        return Detection(False, score, None, 0.0, (), threshold)
    message, confidence = _message(frames, bit_temperature)
    return Detection(True, score, message, confidence, _segments(presence), threshold)


def _running_mean(values: Frames, width: int) -> Frames:
    """Means over every `width` neighbours (over all where there are fewer)."""
    width = min(width, len(values))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return np.asarray((sums[width:] - sums[:-width]) / width, dtype=np.float32)


def _message(frames: Frames, bit_temperature: float) -> tuple[int, float]:
    """Bits by the mean of their logits, each frame counting as much as the mark is present in it."""
    logits = np.average(frames[:, 1:], axis=0, weights=frames[:, 0] + 1e-9) / bit_temperature
    message = sum(1 << k for k, logit in enumerate(logits) if logit > 0)
    return message, float(1 / (1 + np.exp(-np.abs(logits).min())))


def _segments(presence: Frames) -> tuple[Segment, ...]:
    padded = np.pad(presence, (SMOOTH // 2, SMOOTH - 1 - SMOOTH // 2), mode="edge")
    inside = np.concatenate([[False], _running_mean(padded, SMOOTH) > 0.5, [False]])
    borders = np.flatnonzero(inside[1:] != inside[:-1])
    return tuple(
        Segment(start * FRAME_SECONDS, end * FRAME_SECONDS, float(presence[start:end].mean()))
        for start, end in borders.reshape(-1, 2).tolist()
        if end - start >= SHORTEST
    )
