"""Which container a file is, and whether the container says that the file should be longer than it is.

Decoders read on past a missing end in silence; whoever uploads half a consent recording should be told so. Each
function looks at lengths that the container states about itself and at nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import Literal

Container = Literal["wav", "flac", "ogg", "mp3", "adts", "mp4"]
Data = bytes | mmap
"""A whole file, in memory or not."""

UNKNOWN_SIZE = {0, 0xFFFFFFFF}  # what writers put who could not know the length (pipes, streams)
MP4_ATOMS = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"}


def skip_id3(data: Data) -> int:
    """Where the sound begins behind any ID3v2 tags (id3.org, v2.4.0 section 3.1)."""
    start = 0
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        size = 0
        for byte in data[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size
    return start


def identify(data: Data) -> Container | None:
    """The container by its first bytes, or None where it is none that we read."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"OggS":
        return "ogg"
    if data[4:8] in MP4_ATOMS:
        return "mp4"
    start = skip_id3(data)
    if data[start : start + 4] == b"fLaC":
        return "flac"
    sync = data[start : start + 2]
    if len(sync) == 2 and sync[0] == 0xFF and sync[1] & 0xE0 == 0xE0:
        # The two layer bits are 00 in ADTS (ISO/IEC 13818-7) and never 00 in MPEG audio (ISO/IEC 11172-3).
        return "adts" if sync[1] & 0xF6 == 0xF0 else "mp3"
    return None


def cut_short(data: Data, container: Container) -> bool:
    """Whether the container promises more than the file holds. A container that promises nothing is never short."""
    return _CUT_SHORT[container](data)


def _riff_chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of its content, stated size) of each chunk."""
    place = 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        yield name, place + 8, size
        place += 8 + size + size % 2


def _wav(data: Data) -> bool:
    return any(
        name == b"data" and size not in UNKNOWN_SIZE and start + size > len(data)
        for name, start, size in _riff_chunks(data)
    )


def _ogg(data: Data) -> bool:
    """RFC 3533: the last page must be whole and carry the end-of-stream flag."""
    last = data.rfind(b"OggS")
    if len(data) < last + 27:
        return True
    segments = data[last + 26]
    table = data[last + 27 : last + 27 + segments]
    whole = len(table) == segments and len(data) >= last + 27 + segments + sum(table)
    return not (whole and data[last + 5] & 0x04)


def _mp3(data: Data) -> bool:
    """The Xing/Info header in the first frame may state the number of bytes of the stream."""
    start = skip_id3(data)
    first = data[start : start + 200]
    place = max(first.find(b"Xing"), first.find(b"Info"))
    if place < 0 or len(first) < place + 16:
        return False
    flags, number = struct.unpack_from(">II", first, place + 4)
    if not flags & 2:
        return False
    size = struct.unpack_from(">I", first, place + 12)[0] if flags & 1 else number
    return bool(start + size > len(data))


def _adts(data: Data) -> bool:
    """Walk the frames: each states its own length in 13 bits."""
    place = skip_id3(data)
    while place + 7 <= len(data) and data[place] == 0xFF and data[place + 1] & 0xF6 == 0xF0:
        length = (data[place + 3] & 0x03) << 11 | data[place + 4] << 3 | data[place + 5] >> 5
        if length < 7:
            return False
        place += length
    return place > len(data)


def _mp4(data: Data) -> bool:
    """ISO/IEC 14496-12: top-level boxes state their size; without `moov` nothing can be played."""
    place, names = 0, set()
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        if size == 1 and place + 16 <= len(data):
            size = struct.unpack_from(">Q", data, place + 8)[0]
        names.add(name)
        if size == 0:  # to the end of the file
            break
        if size < 8:
            return False
        place += size
    return place > len(data) or b"moov" not in names


def flac_samples(data: Data) -> int:
    """The number of samples that STREAMINFO states (RFC 9639, section 8.2); 0 where the writer could not know it."""
    start = skip_id3(data)
    return int.from_bytes(data[start + 18 : start + 26], "big") & (1 << 36) - 1


def _stated_in_samples(data: Data) -> bool:  # noqa: ARG001 - one signature for all containers
    """FLAC states its length in samples, which only the decoder can count."""
    return False


_CUT_SHORT: dict[Container, Callable[[Data], bool]] = {
    "wav": _wav,
    "flac": _stated_in_samples,
    "ogg": _ogg,
    "mp3": _mp3,
    "adts": _adts,
    "mp4": _mp4,
}
