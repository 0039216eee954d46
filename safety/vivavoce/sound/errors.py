"""The errors of sound files."""

from __future__ import annotations

from typing import Literal

SoundCode = Literal[
    "not_audio",
    "truncated",
    "empty",
    "too_long",
    "too_short",
    "silent",
    "not_finite",
    "too_many_channels",
    "bad_sample_rate",
]


class SoundError(Exception):
    """A sound that cannot be taken. `code` is for machines, `detail` for the person who sent it."""

    def __init__(self, code: SoundCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: SoundCode = code
        self.detail = detail
