"""How often a recording that was joined of two speakers is found out, and how often one that was not is suspected.

Of each recording only the speech is taken, as verification does. Twice: the last seconds, whose place is known, by
another speaker (as the one-time words of a challenge would be), all pairs; and a stretch somewhere, whose place is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivavoce.policy.verification import THRESHOLDS
from vivavoce.sound import Samples
from vivavoce.verification.recordings import RATE, find_speech
from vivavoce.verification.speakers import SpeakerVerifier, Vector
from vivavoce.verification.splices import Unity, unity

WORDS_SECONDS = (1.5, 2.0, 3.0)
STRETCH_SECONDS = (1.5, 3.0, 5.0)
LEAST_SECONDS = 9.0
"""Speech that a recording has at least, to be measured."""
NOWHERE = slice(0, 0)


@dataclass(frozen=True)
class Speech:
    """The speech of one recording: float32[n] at 16 kHz."""

    name: str
    wave: Samples


class Remembering:
    """A verifier that hears each window once: a splice leaves most of them as they were."""

    def __init__(self, verifier: SpeakerVerifier) -> None:
        self._verifier = verifier
        self._known: dict[bytes, Vector] = {}

    def vector(self, samples: Samples, sample_rate: int) -> Vector:
        """As `SpeakerVerifier.vector`."""
        key = samples.tobytes()
        if key not in self._known:
            self._known[key] = self._verifier.vector(samples, sample_rate)
        return self._known[key]


def speech_of(name: str, wave: Samples) -> Speech | None:
    """The speech of a recording at 16 kHz; None for one that is too short."""
    speech = wave[find_speech(wave)]
    return Speech(name, speech) if len(speech) >= LEAST_SECONDS * RATE else None


def measure_words(verifier: SpeakerVerifier, recordings: Sequence[Speech]) -> None:
    """Print how the last seconds compare with all before them: of the same recording, and of all others."""
    last = round(max(WORDS_SECONDS) * RATE)
    sentences = np.stack([verifier.vector(one.wave[:-last], RATE) for one in recordings])
    print("\nwords at the end, compared with the sentence")
    for seconds in WORDS_SECONDS:
        words = np.stack([verifier.vector(one.wave[-round(seconds * RATE) :], RATE) for one in recordings])
        cosines = sentences @ words.T
        same = np.eye(len(recordings), dtype=bool)
        for name, threshold in (
            ("refused", THRESHOLDS.other_speaker), ("refused or reviewed", THRESHOLDS.least_words_likeness),
        ):  # fmt: skip
            low = cosines < threshold
            print(
                f"  {seconds:g} s, {name:19} below {threshold:.2f}: of another speaker {_share(low[~same])}"
                f", of the same {_share(low[same])}"
            )


def measure_stretches(verifier: SpeakerVerifier, recordings: Sequence[Speech], seed: int = 3) -> None:
    """Print how often a stretch of another speaker somewhere is suspected, and how often a whole recording is."""
    hearer, random = Remembering(verifier), np.random.default_rng(seed)
    print("\na stretch somewhere, windows compared with one another")
    whole = [_unity(hearer, one.wave) for one in recordings]
    print(f"  nothing joined: suspected {_suspected(whole)}")
    for seconds in (*STRETCH_SECONDS, None):
        joined = []
        for place, one in enumerate(recordings):
            other = recordings[(7 * place + 31) % len(recordings)]
            joined.append(_unity(hearer, _spliced(one.wave, other.wave, seconds, random)))
        length = "the second half" if seconds is None else f"{seconds:g} s"
        print(f"  {length} of another: suspected {_suspected(joined)}")


def _spliced(wave: Samples, other: Samples, seconds: float | None, random: np.random.Generator) -> Samples:
    """A recording with a stretch of another one, as loud as itself."""
    size = min(len(wave) // 2 if seconds is None else round(seconds * RATE), len(other))
    start = len(wave) - size if seconds is None else int(random.integers(0, len(wave) - size + 1))
    taken = int(random.integers(0, len(other) - size + 1))
    made = wave.copy()
    made[start : start + size] = other[taken : taken + size] * (wave.std() / other.std())
    return made


def _unity(hearer: Remembering, speech: Samples) -> Unity:
    return unity(hearer, speech, RATE, np.ones(len(speech), dtype=bool), NOWHERE)


def _suspected(found: Sequence[Unity]) -> str:
    asked = THRESHOLDS
    low = [one.window < asked.least_window_likeness or one.halves < asked.least_halves_likeness for one in found]
    return _share(np.array(low))


def _share(hits: NDArray[np.bool_]) -> str:
    return f"{int(hits.sum()):,} of {hits.size:,} ({hits.mean():.2%})"
