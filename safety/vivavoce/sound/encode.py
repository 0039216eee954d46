"""From samples to the bytes of a sound file. The same samples always give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
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
class Codec:
    """How FFmpeg is asked for a lossy format."""

    muxer: str
    codec: str
    bits_per_second: int
    options: dict[str, str]


# 64 kbit/s of MP3 or AAC and 32 kbit/s of Opus are transparent for one speaking voice at 24 kHz.
CODECS: dict[str, Codec] = {
    "mp3": Codec("mp3", "libmp3lame", 64_000, {}),
    "opus": Codec("ogg", "libopus", 32_000, {"application": "audio", "vbr": "constrained"}),
    "aac": Codec("adts", "aac", 64_000, {}),
}


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """Change the rate of float32[n]; the result has round(n * to_rate / from_rate) samples, give or take one."""
    if from_rate == to_rate:
        return samples
    return np.asarray(soxr.resample(samples, from_rate, to_rate), dtype=np.float32)


def resampler(from_rate: int, to_rate: int) -> Callable[..., Samples]:
    """Change the rate of a sound that comes in chunks: takes float32[n] and `last`, gives what is ready."""
    if from_rate == to_rate:
        return lambda samples, last: samples  # noqa: ARG005 - as below
    stream = soxr.ResampleStream(from_rate, to_rate, 1)
    return lambda samples, last: np.asarray(stream.resample_chunk(samples, last=last), dtype=np.float32)


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
        return int16(at_rate).astype("<i2").tobytes()
    return _lossy(at_rate, CODECS[format])


def _within_full_scale(samples: Samples) -> Samples:
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak <= PEAK else samples * np.float32(PEAK / peak)


def int16(samples: Samples) -> np.ndarray:
    """Samples within full scale as whole numbers of 16 bit."""
    return np.rint(samples * 32767).astype(np.int16)


def _lossless(samples: Samples, sample_rate: int, container: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, int16(samples), sample_rate, format=container.upper(), subtype="PCM_16")
    return buffer.getvalue()


def _lossy(samples: Samples, how: Codec) -> bytes:
    return compress(
        samples,
        SPEECH_RATE,
        muxer=how.muxer,
        codec=how.codec,
        bits_per_second=how.bits_per_second,
        options=how.options,
    )
