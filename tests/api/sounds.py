"""Sounds that nobody should send, made for real."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import soundfile

RATE = 16_000


def wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    """Write a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def noise(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """float32[samples, channels] of quiet noise."""
    shape = (int(seconds * rate), channels)
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


@cache
def bad_sounds() -> dict[str, bytes]:
    """Each kind of bad sound, by the code of its error."""
    holed = noise(4)
    holed[100] = np.nan
    return {
        "not_audio": b"<html>this is no sound</html>" * 100,
        "truncated": wav(noise(4))[:60_000],
        "empty": b"",
        "silent": wav(np.zeros(4 * RATE, np.float32)),
        "too_long": _eight_hours(),
        "bad_sample_rate": wav(noise(4, rate=4000), rate=4000),
        "too_many_channels": wav(noise(4, channels=5)),
        "not_finite": wav(holed, subtype="FLOAT"),
        "too_short": wav(noise(0.1)),
    }


def _eight_hours() -> bytes:
    """Eight hours of silence: some megabytes of FLAC, which unpack to half a gigabyte."""
    file = io.BytesIO()
    minute = np.zeros(60 * 8000, np.int16)
    with soundfile.SoundFile(file, "w", 8000, 1, "PCM_16", format="FLAC") as out:
        for _ in range(8 * 60):
            out.write(minute)
    return file.getvalue()
