"""Files and filters that the product itself does not write or use: lower bit rates, other codecs, FFmpeg's filters."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from vivavoce.sound import Samples, decode
from vivavoce.sound.lossy import compress

Heard = tuple[Samples, int]  # float32[n] and its sample rate in Hz


def coded(samples: Samples, rate: int, *, muxer: str, codec: str, bits_per_second: int) -> Heard:
    """Through an FFmpeg codec at a given rate, and back by the product's own decoder."""
    wave = samples.clip(-1, 1).astype(np.float32)
    return heard(compress(wave, rate, muxer=muxer, codec=codec, bits_per_second=bits_per_second))


def written(samples: Samples, rate: int, container: str, subtype: str, level: float | None = None) -> Heard:
    """Through a file of libsndfile's; `level` is its compression level, 0 to 1."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.clip(-1, 1), rate, format=container, subtype=subtype, compression_level=level)
    return heard(buffer.getvalue())


def heard(data: bytes) -> Heard:
    """A file as the product decodes it."""
    sound = decode(data)
    return sound.samples, sound.sample_rate
