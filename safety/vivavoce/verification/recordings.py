"""Whether a recording can be judged at all: how much speech is in it, how loud, how clean.

Speech is found by silero's detector, which comes with faster-whisper (MIT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivavoce.sound import Samples
from vivavoce.verification.errors import VerifierMissing

RATE = 16_000  # Hz
MODEL = "silero-vad"
FULL_SCALE = 0.985
QUIET_DB = -120.0

Spoken = NDArray[np.bool_]


@dataclass(frozen=True)
class Quality:
    """Levels in dB of full scale, of the speech alone; the ratio of its power to that of the rest, in dB."""

    speech_seconds: float
    level_db: float
    snr_db: float


def quality(wave: Samples, spoken: Spoken) -> Quality:
    """Measure float32[n], mono, at `RATE`, of which `spoken` says where there is speech."""
    speech, rest = _power(wave[spoken]), _power(wave[~spoken])
    return Quality(
        speech_seconds=float(spoken.sum()) / RATE,
        level_db=_db(speech),
        # The pauses' noise is under the speech as well.
        snr_db=_db(max(speech - rest, 0.0)) - _db(rest),
    )


def clipped(samples: Samples) -> float:
    """Share of samples at full scale, of a recording as it was handed in."""
    return float(np.mean(np.abs(samples) >= FULL_SCALE))


def find_speech(wave: Samples) -> Spoken:
    """Find the speech in float32[n], mono, at `RATE`: bool[n]; raises `VerifierMissing`."""
    try:
        from faster_whisper.vad import VadOptions, get_speech_timestamps
    except ModuleNotFoundError as error:
        raise VerifierMissing("finding speech needs faster-whisper: pip install faster-whisper") from error
    spoken = np.zeros(len(wave), dtype=bool)
    options = VadOptions(speech_pad_ms=0, min_silence_duration_ms=100)
    for part in get_speech_timestamps(wave, options, sampling_rate=RATE):
        spoken[part["start"] : part["end"]] = True
    return spoken


def _power(wave: Samples) -> float:
    return float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0


def _db(power: float) -> float:
    return 10 * float(np.log10(power)) if power > 10 ** (QUIET_DB / 10) else QUIET_DB
