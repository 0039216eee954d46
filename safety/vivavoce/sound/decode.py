"""From the bytes of a sound file to samples: WAV, FLAC, MP3, OGG (Vorbis, Opus), AAC (ADTS, M4A).

Any bytes give a `Sound` or a `SoundError`, nothing else, and memory stays bounded by the longest sound allowed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
import soundfile
from av.error import FFmpegError
from numpy.typing import NDArray

from vivavoce.sound.containers import Container, cut_short, flac_samples, identify
from vivavoce.sound.errors import SoundError

Samples = NDArray[np.float32]

MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz
MAX_CHANNELS = 2
BLOCK_SECONDS = 10
SILENCE = 10 ** (-60 / 20)  # peak, full scale 1.0: nothing above -60 dBFS is no speech

# What libsndfile and FFmpeg raise on bytes that they cannot make sense of.
_UNREADABLE = (soundfile.SoundFileError, FFmpegError, ValueError, OSError, EOFError)

# FFmpeg's names for containers, where they are not ours.
_DEMUXERS = {"adts": "aac", "mp4": "mov"}


@dataclass(frozen=True)
class Sound:
    """A decoded file, mixed down to one channel.

    Attributes:
        samples: float32[n], full scale 1.0, all finite.
        sample_rate: Hz, as in the file.
        channels: Channels of the file, before the mix.
    """

    samples: Samples
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class _Stream:
    """An opened file: its figures, and blocks of float32[frames, channels] as they are decoded."""

    sample_rate: int
    channels: int
    frames: int | None  # as the header states it, where it does
    blocks: Iterator[Samples]


def decode(data: bytes, *, max_seconds: float = 600) -> Sound:
    """Decode a sound file.

    Args:
        data: The whole file.
        max_seconds: The longest sound taken; longer ones are refused by their header or as soon as decoding gets there

    Raises:
        SoundError: not_audio, truncated, empty, too_long, not_finite, too_many_channels or bad_sample_rate.
    """
    if not data:
        raise SoundError("empty", "the file has no bytes")
    container = identify(data)
    if container is None:
        raise SoundError("not_audio", "this is no WAV, FLAC, MP3, OGG, AAC or M4A file")
    if cut_short(data, container):
        raise SoundError("truncated", "the file ends before the sound that its header promises")
    try:
        stream = _open(data, container)
    except _UNREADABLE as error:
        raise SoundError("not_audio", f"this {container} file cannot be read") from error
    _check_header(stream, max_seconds)
    try:
        samples = _collect(stream, max_seconds)
    except _UNREADABLE as error:
        raise _broken(container, stream) from error
    if container == "flac" and len(samples) < (stream.frames or 0):
        raise _broken(container, stream)
    if not len(samples):
        raise SoundError("empty", "the file holds no samples")
    return Sound(samples, stream.sample_rate, stream.channels)


MIN_MARKED_SECONDS = 0.5
"""A shorter sound holds no mark that could be found: it is an error, not a sound without a mark."""


def require_speech(sound: Sound, min_seconds: float) -> None:
    """Refuse a sound that cannot hold speech.

    Raises:
        SoundError: too_short (less than `min_seconds`) or silent (nothing above -60 dBFS).
    """
    if sound.seconds < min_seconds:
        raise SoundError("too_short", f"{sound.seconds:.2f} s; at least {min_seconds:g} s are needed")
    if float(np.abs(sound.samples).max(initial=0.0)) < SILENCE:
        raise SoundError("silent", "nothing in the file is louder than -60 dBFS")


def _broken(container: Container, stream: _Stream) -> SoundError:
    """FLAC states its length in samples: what breaks off before them is truncated. Elsewhere nobody can tell."""
    if container == "flac" and stream.frames:
        return SoundError("truncated", f"the sound breaks off before the {stream.frames} samples promised")
    return SoundError("not_audio", f"the sound in this {container} file cannot be decoded")


def _check_header(stream: _Stream, max_seconds: float) -> None:
    if stream.channels > MAX_CHANNELS:
        raise SoundError("too_many_channels", f"{stream.channels} channels; one or two are taken")
    if not MIN_RATE <= stream.sample_rate <= MAX_RATE:
        raise SoundError("bad_sample_rate", f"{stream.sample_rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are taken")
    if stream.frames is not None and stream.frames > max_seconds * stream.sample_rate:
        raise SoundError("too_long", _longest(max_seconds))


def _longest(max_seconds: float) -> str:
    return f"the sound is longer than the {max_seconds:g} s that are taken"


def _collect(stream: _Stream, max_seconds: float) -> Samples:
    """Mix each block down and keep it, until the sound ends or gets too long."""
    kept: list[Samples] = []
    total = 0
    for block in stream.blocks:
        mono = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise SoundError("not_finite", "the file holds samples that are no numbers (NaN or infinite)")
        total += len(mono)
        if total > max_seconds * stream.sample_rate:
            raise SoundError("too_long", _longest(max_seconds))
        kept.append(mono)
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)


def _open(data: bytes, container: Container) -> _Stream:
    """libsndfile where it can; FFmpeg for AAC, FLAC that was streamed, and codecs that libsndfile doesn't know."""
    if container in ("adts", "mp4") or (container == "flac" and not flac_samples(data)):
        return _open_with_ffmpeg(data, container)
    try:
        return _open_with_sndfile(data)
    except soundfile.SoundFileError:
        return _open_with_ffmpeg(data, container)


def _open_with_sndfile(data: bytes) -> _Stream:
    file = soundfile.SoundFile(io.BytesIO(data))

    def blocks() -> Iterator[Samples]:
        with file:
            while len(block := file.read(BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True)):
                yield block

    # libsndfile says "as many as can be" where the container states no length.
    frames = file.frames if 0 <= file.frames < 2**62 else None
    return _Stream(file.samplerate, file.channels, frames, blocks())


def _open_with_ffmpeg(data: bytes, container: Container) -> _Stream:
    # Naming the demuxer keeps FFmpeg from guessing at formats that we do not take (playlists, other files' names).
    file = av.open(io.BytesIO(data), mode="r", format=_DEMUXERS.get(container, container))
    if not file.streams.audio:
        file.close()
        raise SoundError("not_audio", f"the {container} file has no sound in it")
    stream = file.streams.audio[0]
    if stream.codec_context is None:
        file.close()
        raise SoundError("not_audio", f"the sound in the {container} file is written in an unknown way")
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels

    def blocks() -> Iterator[Samples]:
        to_float = av.AudioResampler(format="fltp", layout=stream.codec_context.layout.name, rate=rate)
        with file:
            for frame in file.decode(stream):
                if frame.sample_rate != rate or frame.layout.nb_channels != channels:
                    raise SoundError("not_audio", "rate or channels change in the middle of the file")
                yield from (_planes(part) for part in to_float.resample(frame))
            yield from (_planes(part) for part in to_float.resample(None))

    # FLAC comes here with no length stated, and for the others but MP4 FFmpeg guesses it from the bit rate.
    seconds = None
    if container == "mp4" and stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    return _Stream(rate, channels, None if seconds is None else int(seconds * rate), blocks())


def _planes(frame: av.AudioFrame) -> Samples:
    return frame.to_ndarray().T.astype(np.float32, copy=False)
