"""What is measured of a sound: its words, its speaker, and how near it is to another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from vivavoce.model.errors import ModelError
from vivavoce.model.training import quality
from vivavoce.model.training.quality import words
from vivavoce.policy.heard_words import edit_distance
from vivavoce.sound import Samples
from vivavoce.verification.speakers import SpeakerVerifier, Vector
from vivavoce.verification.transcription import Transcriber

RATE = 16_000  # Hz of PESQ and STOI


@dataclass(frozen=True)
class Sound:
    """A sound in memory: float32[n], mono."""

    samples: Samples
    rate: int

    @classmethod
    def read(cls, path: Path) -> Sound:
        """Read a file, mixed down."""
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return cls(wave.mean(1), rate)

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.samples) / self.rate

    def part(self, start: float, end: float) -> Sound:
        """The seconds from start to end."""
        return Sound(self.samples[round(start * self.rate) : round(end * self.rate)], self.rate)

    def at(self, rate: int) -> Samples:
        """The samples at another rate."""
        return np.asarray(soxr.resample(self.samples, self.rate, rate), dtype=np.float32)


class Ears:
    """The two models that listen."""

    def __init__(self) -> None:
        self._speakers, self._words = SpeakerVerifier.open(), Transcriber.open()

    def speaker(self, sound: Sound) -> Vector:
        """Vector of the speaker."""
        return self._speakers.vector(sound.samples, sound.rate)

    def words(self, sound: Sound) -> str:
        """What is said, in English."""
        return self._words.text(sound.samples, sound.rate, "en")


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Word errors (insertions, deletions, substitutions) and the number of words that were to be said.

    No more errors than words: whisper can repeat itself without end over sounds that are no speech.
    """
    wanted, found = words(said), words(heard)
    return min(edit_distance(wanted, found), len(wanted)), len(wanted)


def rate_of(errors: Sequence[tuple[int, int]]) -> float:
    """Word error rate over several texts."""
    return sum(wrong for wrong, _ in errors) / max(1, sum(total for _, total in errors))


def dnsmos(sound: Sound) -> list[float]:
    """DNSMOS P.835 overall (Reddy et al. 2022), 1 to 5; nothing where the package is not installed."""
    try:
        judge = quality.dnsmos()
    except ModelError:
        return []
    return [judge(np.clip(sound.at(quality.RATE), -1, 1))]


def pesq_and_stoi(original: Sound, made: Sound) -> tuple[float, float] | None:
    """PESQ-WB (ITU-T P.862.2) and STOI (Taal et al. 2011); None where the packages are not installed."""
    try:
        from pesq import pesq
        from pystoi import stoi
    except ModuleNotFoundError:
        return None
    one, other = original.at(RATE), made.at(RATE)
    length = min(len(one), len(other))
    return float(pesq(RATE, one[:length], other[:length], "wb")), float(stoi(one[:length], other[:length], RATE))
