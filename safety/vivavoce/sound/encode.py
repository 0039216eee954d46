"""From samples to the bytes of a sound file. The same samples always give the same bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import soundfile
import soxr

from vivavoce.sound.errors import SoundError
from vivavoce.sound.lossy import compress
from vivavoce.sound.stream import Samples

Format = Literal["wav", "flac", "mp3", "opus", "aac", "pcm"]
FORMATS: tuple[Format, ...] = get_args(Format)

MEDIA_TYPES: dict[str, str] = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "pcm": "audio/pcm",
}

SPEECH_RATE = 24_000  # Hz: what lossy formats and raw PCM are written at
PEAK = 0.999  # full scale 1.0: louder sounds are turned down to this as a whole, so that nothing clips or wraps


@dataclass(frozen=True)
class _Codec:
    """How FFmpeg is asked for a lossy format."""

    muxer: str
    codec: str
    bits_per_second: int
    options: dict[str, str]


# 64 kbit/s of MP3 or AAC and 32 kbit/s of Opus are transparent for one speaking voice at 24 kHz.
_CODECS: dict[str, _Codec] = {
    "mp3": _Codec("mp3", "libmp3lame", 64_000, {}),
    "opus": _Codec("ogg", "libopus", 32_000, {"application": "audio", "vbr": "constrained"}),
    "aac": _Codec("adts", "aac", 64_000, {}),
}


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """Change the rate of float32[n]; the result has round(n * to_rate / from_rate) samples, give or take one."""
    if from_rate == to_rate:
        return samples
    return np.asarray(soxr.resample(samples, from_rate, to_rate), dtype=np.float32)


def encode(samples: Samples, sample_rate: int, format: Format) -> bytes:  # noqa: A002 - the API's own word
    """Write float32[n] mono as a file.

    WAV (16 bit) and FLAC keep `sample_rate`; MP3 (64 kbit/s), Opus in OGG (32 kbit/s), AAC in ADTS (64 kbit/s) and
    raw PCM (16 bit little-endian, no header) are written at 24 kHz.

    Raises:
        SoundError: empty, or not_finite.
        KeyError: no such format.
    """
    if not len(samples):
        raise SoundError("empty", "there are no samples to write")
    if not np.isfinite(samples).all():
        raise SoundError("not_finite", "the samples hold NaN or infinite values")
    if format in ("wav", "flac"):
        return _lossless(_within_full_scale(samples), sample_rate, format)
    at_rate = _within_full_scale(resample(samples, sample_rate, SPEECH_RATE))
    if format == "pcm":
        return _int16(at_rate).astype("<i2").tobytes()
    return _lossy(at_rate, _CODECS[format])


def _within_full_scale(samples: Samples) -> Samples:
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak <= PEAK else samples * np.float32(PEAK / peak)


def _int16(samples: Samples) -> np.ndarray:
    return np.rint(samples * 32767).astype(np.int16)


def _lossless(samples: Samples, sample_rate: int, container: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, _int16(samples), sample_rate, format=container.upper(), subtype="PCM_16")
    return buffer.getvalue()


def _lossy(samples: Samples, how: _Codec) -> bytes:
    return compress(
        samples,
        SPEECH_RATE,
        muxer=how.muxer,
        codec=how.codec,
        bits_per_second=how.bits_per_second,
        options=how.options,
    )
