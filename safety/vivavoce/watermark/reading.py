"""What is said about a sound that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vivavoce.watermark.code import Reading


class Verdict(StrEnum):
    """Whether a sound is ours."""

    OURS = "ours"
    OURS_MODIFIED = "ours_modified"
    NOT_DETECTED = "not_detected"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Segment:
    """A stretch that carries the mark, in seconds from the beginning."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Detection:
    """What was found in a sound.

    Attributes:
        verdict: In one word.
        reason: In plain words, why it is not simply `ours` or `not_detected`; empty where it is.
        score: -log10 of a bound on the probability that an unmarked sound would look marked like this.
        threshold: The score from which on a mark counts as found.
        segments: Where the mark is; empty where none was found.
        reading: What it says, for `Code.resolve`; None without the secret or without a keyed mark.
        speed: How many times faster than it was made it goes.
        pitch: How many times higher than it was made it is.
        learned: Presence of the learned mark in [0, 1], over the second where it is highest.
        seconds: Length of the sound.
    """

    verdict: Verdict
    reason: str
    score: float
    threshold: float
    segments: tuple[Segment, ...]
    reading: Reading | None
    speed: float
    pitch: float
    learned: float
    seconds: float

    @property
    def found(self) -> bool:
        """Whether a mark was found."""
        return self.verdict in (Verdict.OURS, Verdict.OURS_MODIFIED)
