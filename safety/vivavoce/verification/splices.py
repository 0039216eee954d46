"""Whether a recording is of one speaker throughout, or was joined of two.

Its speech is cut into windows, and their speakers are compared (CAM++, `vivavoce.verification.speakers`): each window
with all that do not overlap it, and all before each moment with all after it. A stretch whose place is known, such as
the one-time words of a challenge, is compared with the rest as a whole: that tells shorter ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vivavoce.sound import Samples

WINDOW = 2.0  # seconds of speech
HOP = 1.0
LEAST_SECONDS = 0.8
"""Speech without which a stretch is not compared: too little to tell a speaker by."""
_SIDE = 3
"""Windows on either side of a moment, at least."""

Vector = NDArray[np.float32]


class Hearer(Protocol):
    """What this needs of `SpeakerVerifier`."""

    def vector(self, samples: Samples, sample_rate: int) -> Vector:
        """Describe the speaker of float32[n], mono, by a vector of length 1."""


@dataclass(frozen=True)
class Unity:
    """Cosines between parts of one recording.

    Attributes:
        window: Of the window that is least like the others; 1 under 6 s of speech.
        halves: Of what comes before and after the moment at which the speaker changes most; 1 under 7 s of speech.
        stretch: Of a stretch whose place is known and all before it; None where either has too little speech.
    """

    window: float = 1.0
    halves: float = 1.0
    stretch: float | None = 1.0


def unity(hearer: Hearer, samples: Samples, rate: int, spoken: NDArray[np.bool_], stretch: slice) -> Unity:
    """Compare the parts of float32[n], mono.

    Args:
        spoken: bool[n], where there is speech.
        stretch: Samples of a stretch to be compared with what was said before it; an empty slice for none.
    """
    window, halves = _by_windows(windows(hearer, samples[spoken], rate))
    before, within = (samples[part][spoken[part]] for part in (slice(0, stretch.start), stretch))
    likeness = None
    if min(len(before), len(within)) >= LEAST_SECONDS * rate:
        likeness = float(hearer.vector(before, rate) @ hearer.vector(within, rate))
    return Unity(window, halves, likeness)


def windows(hearer: Hearer, speech: Samples, rate: int) -> Vector:
    """Vectors float32[count, dimensions] of all windows of float32[n]; none where it is shorter than one."""
    size, hop = round(WINDOW * rate), round(HOP * rate)
    starts = range(0, len(speech) - size + 1, hop)
    return np.array([hearer.vector(speech[start : start + size], rate) for start in starts], dtype=np.float32)


def _by_windows(vectors: Vector) -> tuple[float, float]:
    """The cosines `Unity.window` and `Unity.halves`."""
    count = len(vectors)
    overlap = round(WINDOW / HOP) - 1
    window = halves = 1.0
    for place in range(count):
        others = np.concatenate((vectors[: max(0, place - overlap)], vectors[place + overlap + 1 :]))
        if len(others) >= _SIDE:
            window = min(window, _cosine(vectors[place], others.mean(0)))
    for place in range(_SIDE, count - _SIDE + 1):
        halves = min(halves, _cosine(vectors[:place].mean(0), vectors[place:].mean(0)))
    return window, halves


def _cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9))
