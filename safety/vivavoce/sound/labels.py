"""Labels inside a sound file: title, software, and whatever else a release says about itself.

ID3v2.4 in MP3 and AAC, Vorbis comments in FLAC and OGG, RIFF INFO in WAV. Raw PCM has no place for labels. They are
written before a file is signed, since they change its bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

from mutagen.flac import FLAC
from mutagen.id3 import ID3, TXXX, Frames
from mutagen.oggopus import OggOpus

from vivavoce.sound.encode import Format

ID3_FRAMES = {"title": "TIT2", "artist": "TPE1", "software": "TSSE", "date": "TDRC", "copyright": "TCOP"}
INFO_CHUNKS = {"title": b"INAM", "artist": b"IART", "software": b"ISFT", "date": b"ICRD", "copyright": b"ICOP"}
UTF8 = 3  # ID3v2.4 text encoding


def tag(data: bytes, format: Format, fields: Mapping[str, str]) -> bytes:  # noqa: A002 - the API's own word
    """Write labels into a file that `encode` made.

    Args:
        data: The file.
        format: Its format; `pcm` comes back unchanged.
        fields: Labels by lower-case name. Names that a format has no field for are kept as name=value.

    Raises:
        mutagen.MutagenError: the file is not of that format.
    """
    if not fields or format == "pcm":
        return data
    if format == "wav":
        return _riff_info(data, fields)
    buffer = io.BytesIO(data)
    if format in ("mp3", "aac"):
        _id3(fields).save(buffer, v2_version=4)
        return buffer.getvalue()
    file = FLAC(buffer) if format == "flac" else OggOpus(buffer)  # type: ignore[no-untyped-call]
    for name, value in fields.items():
        file[name] = value
    buffer.seek(0)
    file.save(buffer)
    return buffer.getvalue()


def _id3(fields: Mapping[str, str]) -> ID3:
    tags = ID3()  # type: ignore[no-untyped-call]
    for name, value in fields.items():
        if name in ID3_FRAMES:
            frame = Frames[ID3_FRAMES[name]](encoding=UTF8, text=[value])
        else:
            frame = TXXX(encoding=UTF8, desc=name, text=[value])  # type: ignore[no-untyped-call]
        tags.add(frame)  # type: ignore[no-untyped-call]
    return tags


def id3_tag(fields: Mapping[str, str]) -> bytes:
    """An ID3v2.4 tag by itself, to be put before the sound."""
    buffer = io.BytesIO()
    _id3(fields).save(buffer, v2_version=4)
    return buffer.getvalue()


def riff_info(fields: Mapping[str, str]) -> bytes:
    """A LIST INFO chunk (Microsoft RIFF, 1991, chapter 2)."""
    known = [(INFO_CHUNKS[name], value) for name, value in fields.items() if name in INFO_CHUNKS]
    others = "\n".join(f"{name}={value}" for name, value in fields.items() if name not in INFO_CHUNKS)
    if others:
        known.append((b"ICMT", others))
    return _chunk(b"LIST", b"INFO" + b"".join(_chunk(name, value.encode("utf-8") + b"\0") for name, value in known))


def _riff_info(data: bytes, fields: Mapping[str, str]) -> bytes:
    """Append the labels and correct the size in the RIFF header."""
    tagged = data + b"\0" * (len(data) % 2) + riff_info(fields)
    return tagged[:4] + struct.pack("<I", len(tagged) - 8) + tagged[8:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)
