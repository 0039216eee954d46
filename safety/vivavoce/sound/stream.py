"""A sound file opened and read block by block: WAV, FLAC, MP3, OGG (Vorbis, Opus), AAC (ADTS, M4A), of any length.

Any bytes give samples or a `SoundError`, nothing else, and memory stays bounded by one block, however long the file.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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

# What libsndfile and FFmpeg raise on bytes that they cannot make sense of.
_UNREADABLE = (soundfile.SoundFileError, FFmpegError, ValueError, OSError, EOFError)

# FFmpeg's names for containers, where they are not ours.
_DEMUXERS = {"adts": "aac", "mp4": "mov"}


@dataclass(frozen=True)
class SoundStream:
    """A file that is being read, mixed down to one channel.

    Attributes:
        sample_rate: Hz, as in the file.
        channels: Channels of the file, before the mix.
        blocks: float32[n], full scale 1.0, all finite; 10 s each, the last one shorter. To be gone through once. Raises
            SoundError truncated, empty, too_long, not_finite or not_audio where that comes to light.
    """

    sample_rate: int
    channels: int
    blocks: Iterator[Samples]


@dataclass(frozen=True)
class _Opened:
    """An opened file: its figures, and blocks of float32[frames, channels] as they are decoded."""

    container: Container
    sample_rate: int
    channels: int
    frames: int | None  # as the header states it, where it does
    blocks: Iterator[Samples]


def open_sound(source: bytes | Path, *, max_seconds: float = float("inf"), unfinished: bool = False) -> SoundStream:
    """Open a sound file and look at its header; the samples come as they are asked for.

    Args:
        source: The bytes of the whole file, or its path.
        max_seconds: The longest sound taken; longer ones are refused by their header or as soon as reading gets there.
        unfinished: More of the file is to come, so that a missing end is no error.

    Raises:
        SoundError: not_audio, truncated, empty, too_long, too_many_channels or bad_sample_rate.
        OSError: There is no file at that path that could be read.
    """
    container, with_ffmpeg = _inspect(source, unfinished)
    try:
        opened = _open(source, container, with_ffmpeg)
    except _UNREADABLE as error:
        raise SoundError("not_audio", f"this {container} file cannot be read") from error
    _check_header(opened, max_seconds)
    return SoundStream(opened.sample_rate, opened.channels, _mono_blocks(opened, max_seconds))


def _inspect(source: bytes | Path, unfinished: bool) -> tuple[Container, bool]:
    """The container, and whether FFmpeg must read it, from what the file says about itself."""
    if isinstance(source, bytes):
        return _inspect_data(source, unfinished)
    with source.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return _inspect_data(b"", unfinished)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _inspect_data(data, unfinished)


def _inspect_data(data: bytes | mmap.mmap, unfinished: bool) -> tuple[Container, bool]:
    if not len(data):
        raise SoundError("empty", "the file has no bytes")
    container = identify(data)
    if container is None:
        raise SoundError("not_audio", "this is no WAV, FLAC, MP3, OGG, AAC or M4A file")
    if not unfinished and cut_short(data, container):
        raise SoundError("truncated", "the file ends before the sound that its header promises")
    # libsndfile wants to know the length of FLAC, which one that was streamed does not state.
    # FFmpeg reads what has no end too, and does not complain of a first frame that leans on one that is not there.
    return container, unfinished or container in ("adts", "mp4") or (container == "flac" and not flac_samples(data))


def _check_header(opened: _Opened, max_seconds: float) -> None:
    if opened.channels > MAX_CHANNELS:
        raise SoundError("too_many_channels", f"{opened.channels} channels; one or two are taken")
    if not MIN_RATE <= opened.sample_rate <= MAX_RATE:
        raise SoundError("bad_sample_rate", f"{opened.sample_rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are taken")
    if opened.frames is not None and opened.frames > max_seconds * opened.sample_rate:
        raise SoundError("too_long", _longest(max_seconds))


def _longest(max_seconds: float) -> str:
    return f"the sound is longer than the {max_seconds:g} s that are taken"


def _mono_blocks(opened: _Opened, max_seconds: float) -> Iterator[Samples]:
    """Mix down, check, and gather what the decoder gives into blocks of `BLOCK_SECONDS`."""
    size = BLOCK_SECONDS * opened.sample_rate
    kept: list[Samples] = []
    total = waiting = 0
    for mono in _mixed(opened):
        total += len(mono)
        if total > max_seconds * opened.sample_rate:
            raise SoundError("too_long", _longest(max_seconds))
        kept.append(mono)
        waiting += len(mono)
        if waiting >= size:
            gathered = np.concatenate(kept)
            whole = waiting - waiting % size
            yield from gathered[:whole].reshape(-1, size)
            kept, waiting = [gathered[whole:]], waiting % size
    if opened.container == "flac" and total < (opened.frames or 0):
        raise _broken(opened)
    if not total:
        raise SoundError("empty", "the file holds no samples")
    if waiting:
        yield np.concatenate(kept)


def _mixed(opened: _Opened) -> Iterator[Samples]:
    """float32[n], one channel, all finite, as the decoder gives it."""
    try:
        for block in opened.blocks:
            mono = block.mean(axis=1, dtype=np.float32)
            if not np.isfinite(mono).all():
                raise SoundError("not_finite", "the file holds samples that are no numbers (NaN or infinite)")
            yield mono
    except _UNREADABLE as error:
        raise _broken(opened) from error


def _broken(opened: _Opened) -> SoundError:
    """FLAC states its length in samples: what breaks off before them is truncated. Elsewhere nobody can tell."""
    if opened.container == "flac" and opened.frames:
        return SoundError("truncated", f"the sound breaks off before the {opened.frames} samples promised")
    return SoundError("not_audio", f"the sound in this {opened.container} file cannot be decoded")


def _open(source: bytes | Path, container: Container, with_ffmpeg: bool) -> _Opened:
    """libsndfile where it can; FFmpeg for AAC, FLAC that was streamed, and codecs that libsndfile doesn't know."""
    if not with_ffmpeg:
        try:
            return _open_with_sndfile(_handle(source), container)
        except soundfile.SoundFileError:
            pass
    return _open_with_ffmpeg(_handle(source), container)


def _handle(source: bytes | Path) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    # Opened by number: libsndfile's binding would believe the ending of a name more than the file.
    return os.fdopen(os.open(source, os.O_RDONLY), "rb")


def _open_with_sndfile(handle: BinaryIO, container: Container) -> _Opened:
    try:
        file = soundfile.SoundFile(handle)
    except soundfile.SoundFileError:
        handle.close()
        raise

    def blocks() -> Iterator[Samples]:
        with handle, file:
            while len(block := file.read(BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True)):
                yield block

    # libsndfile says "as many as can be" where the container states no length.
    frames = file.frames if 0 <= file.frames < 2**62 else None
    return _Opened(container, file.samplerate, file.channels, frames, blocks())


def _open_with_ffmpeg(handle: BinaryIO, container: Container) -> _Opened:
    # Naming the demuxer keeps FFmpeg from guessing at formats that we do not take (playlists, other files' names).
    file = av.open(handle, mode="r", format=_DEMUXERS.get(container, container))
    stream = file.streams.audio[0] if file.streams.audio else None
    if stream is None or stream.codec_context is None:
        file.close()
        handle.close()
        said = "has no sound in it" if stream is None else "holds sound that is written in an unknown way"
        raise SoundError("not_audio", f"the {container} file {said}")
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels

    def blocks() -> Iterator[Samples]:
        to_float = av.AudioResampler(format="fltp", layout=stream.codec_context.layout.name, rate=rate)
        with handle, file:
            for frame in file.decode(stream):
                if frame.sample_rate != rate or frame.layout.nb_channels != channels:
                    raise SoundError("not_audio", "rate or channels change in the middle of the file")
                yield from (_planes(part) for part in to_float.resample(frame))
            yield from (_planes(part) for part in to_float.resample(None))

    # FLAC comes here with no length stated, and for the others but MP4 FFmpeg guesses it from the bit rate.
    seconds = None
    if container == "mp4" and stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    return _Opened(container, rate, channels, None if seconds is None else int(seconds * rate), blocks())


def _planes(frame: av.AudioFrame) -> Samples:
    return frame.to_ndarray().T.astype(np.float32, copy=False)
