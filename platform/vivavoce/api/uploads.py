"""Uploaded sounds, checked before anything is done with them."""

from __future__ import annotations

from fastapi import UploadFile

from vivavoce.sound import decode, require_speech


def read_sound(upload: UploadFile, max_seconds: float, min_seconds: float) -> bytes:
    """Read an upload that is a sound with something in it; the bytes, as they came.

    Raises:
        SoundError: Not readable as sound, too long, too short or silent.
    """
    data = upload.file.read()
    require_speech(decode(data, max_seconds=max_seconds), min_seconds)
    return data
