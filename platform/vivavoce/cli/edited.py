"""What others do to a sound before they send it on: an edited copy, for the demo to be looked at."""

from __future__ import annotations

import io

import av  # door: edits a copy of what was already released, for the demo
import numpy as np
import soxr

from vivavoce.sound import SPEECH_RATE, Samples, decode


def faster_mp3(data: bytes, speed: float, bits_per_second: int) -> bytes:
    """Play a sound file `speed` times faster, higher by as much, and squeeze it into a small MP3 file."""
    sound = decode(data)
    samples = np.asarray(soxr.resample(sound.samples, sound.sample_rate * speed, SPEECH_RATE), dtype=np.float32)
    return _mp3(samples / max(1.0, float(np.abs(samples).max())), bits_per_second)


def _mp3(samples: Samples, bits_per_second: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as file:
        stream = file.add_stream("libmp3lame", rate=SPEECH_RATE, layout="mono")
        stream.bit_rate = bits_per_second
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="fltp", layout="mono")
        frame.sample_rate = SPEECH_RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()
