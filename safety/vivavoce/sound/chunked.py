"""Sound files written while the sound is still being made: each chunk of samples gives the next bytes of the file.

The length is not known when the header leaves, so no header states one: WAV says so with the largest size (as pipes
do), FLAC with 0 samples; MP3, AAC (ADTS) and OGG state none anyway. Everything else is as in `encode`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import av
import numpy as np

from vivavoce.sound.encode import CODECS, PEAK, SPEECH_RATE, Codec, Format, int16, resampler
from vivavoce.sound.errors import SoundError
from vivavoce.sound.labels import id3_tag, riff_info
from vivavoce.sound.stream import Samples

_UNKNOWN = 0xFFFFFFFF  # bytes: as many as come
_FLAC = Codec("flac", "flac", 0, {})


class ChunkEncoder:
    """Writes one file, mono, chunk by chunk. Not for several threads.

    Args:
        sample_rate: Hz of what is fed.
        format: One of `FORMATS`; rates and bit rates are those of `encode`.
        fields: Labels, as for `tag`; they are in the first bytes.

    Attributes:
        header: The bytes before the first sound, once `feed` was called.
    """

    def __init__(self, sample_rate: int, format: Format, fields: Mapping[str, str]) -> None:  # noqa: A002
        lossless = format in ("wav", "flac")
        rate = sample_rate if lossless else SPEECH_RATE
        self._resample = resampler(sample_rate, rate)
        self._writer: _Plain | _Muxed
        if format == "wav":
            self._writer = _Plain(wav_header(rate, fields))
        elif format == "pcm":
            self._writer = _Plain(b"")
        else:
            self._writer = _Muxed(_FLAC if format == "flac" else CODECS[format], rate, fields, id3=format != "flac")
        self.header = self._writer.header
        self._gain = 1.0
        self._begun = False

    def feed(self, samples: Samples) -> bytes:
        """Take float32[n] more, full scale 1.0; returns the bytes that are ready.

        What is louder than full scale is turned down, and all that follows with it: nothing clips.

        Raises:
            SoundError: not_finite.
        """
        if not np.isfinite(samples).all():
            raise SoundError("not_finite", "the samples hold NaN or infinite values")
        return self._headed(self._writer.write(self._within_full_scale(self._resample(samples, last=False))))

    def finish(self) -> bytes:
        """Return the rest of the file."""
        rest = self._within_full_scale(self._resample(np.zeros(0, dtype=np.float32), last=True))
        return self._headed(self._writer.write(rest) + self._writer.finish())

    def _headed(self, data: bytes) -> bytes:
        if self._begun:
            return data
        self._begun = True
        return self.header + data

    def _within_full_scale(self, samples: Samples) -> Samples:
        peak = float(np.abs(samples).max(initial=0.0))
        if peak * self._gain > PEAK:
            self._gain = PEAK / peak
        return samples * np.float32(self._gain)


def wav_header(sample_rate: int, fields: Mapping[str, str]) -> bytes:
    """A RIFF header of 16 bit mono with labels before the sound, whose length it does not know."""
    form = struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    head = struct.pack("<4sI4s4sI", b"RIFF", _UNKNOWN, b"WAVE", b"fmt ", len(form)) + form
    return head + (riff_info(fields) if fields else b"") + struct.pack("<4sI", b"data", _UNKNOWN)


class _Plain:
    """16 bit little-endian samples behind a header."""

    def __init__(self, header: bytes) -> None:
        self.header = header

    def write(self, samples: Samples) -> bytes:
        return int16(samples).astype("<i2").tobytes()

    def finish(self) -> bytes:
        return b""


class _Sink:
    """A file that FFmpeg writes to and cannot go back in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class _Muxed:
    """One of FFmpeg's encoders and containers, with state."""

    def __init__(self, how: Codec, rate: int, fields: Mapping[str, str], *, id3: bool) -> None:
        self._sink = _Sink()
        options = {"fflags": "+bitexact", "flush_packets": "1"}
        if how.muxer == "mp3":
            options |= {"write_xing": "0", "id3v2_version": "0"}  # a Xing header states a length; the tag is ours
        if how.muxer == "ogg":
            options |= {"page_duration": "200000"}  # microseconds: what is ready leaves, and does not wait for its page
        self._file = av.open(self._sink, "w", format=how.muxer, container_options=options)
        stream = self._file.add_stream(how.codec, rate=rate, options={**how.options, "flags": "+bitexact"})
        if not isinstance(stream, av.AudioStream):
            raise TypeError(f"{how.codec} is no audio codec")
        stream.layout = "mono"
        if how.bits_per_second:
            stream.bit_rate = how.bits_per_second
        else:
            stream.format = "s16"
        by_id3 = id3 and how.muxer in ("mp3", "adts")
        if not by_id3:
            (stream if how.muxer == "ogg" else self._file).metadata.update(fields)
        self._stream, self._rate, self._fed = stream, rate, 0
        self._to_codec = av.AudioResampler(format=stream.format or "fltp", layout="mono", rate=rate)
        self._file.start_encoding()
        self.header = (id3_tag(fields) if by_id3 and fields else b"") + self._sink.taken()

    def write(self, samples: Samples) -> bytes:
        if len(samples):
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = self._rate, self._fed
            self._fed += len(samples)
            self._mux(self._to_codec.resample(frame))
        return self._sink.taken()

    def finish(self) -> bytes:
        self._mux([*self._to_codec.resample(None), None])
        self._file.close()
        return self._sink.taken()

    def _mux(self, frames: list[av.AudioFrame | None] | list[av.AudioFrame]) -> None:
        for frame in frames:
            self._file.mux(self._stream.encode(frame))
