"""A whole sound file in memory, for sounds that are short enough for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivavoce.sound.errors import SoundError
from vivavoce.sound.stream import Samples, open_sound

SILENCE = 10 ** (-60 / 20)  # peak, full scale 1.0: nothing above -60 dBFS is no speech
MIN_MARKED_SECONDS = 0.5
"""A shorter sound holds no mark that could be found: it is an error, not a sound without a mark."""


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


def decode(data: bytes, *, max_seconds: float = 600, unfinished: bool = False) -> Sound:
    """Decode a sound file.

    Args:
        data: The whole file.
        max_seconds: The longest sound taken; longer ones are refused by their header or as soon as decoding gets there
        unfinished: More of the file is to come, so that a missing end is no error.

    Raises:
        SoundError: not_audio, truncated, empty, too_long, not_finite, too_many_channels or bad_sample_rate.
    """
    stream = open_sound(data, max_seconds=max_seconds, unfinished=unfinished)
    return Sound(np.concatenate(list(stream.blocks)), stream.sample_rate, stream.channels)


def require_speech(sound: Sound, min_seconds: float) -> None:
    """Refuse a sound that cannot hold speech.

    Raises:
        SoundError: too_short (less than `min_seconds`) or silent (nothing above -60 dBFS).
    """
    if sound.seconds < min_seconds:
        raise SoundError("too_short", f"{sound.seconds:.2f} s; at least {min_seconds:g} s are needed")
    if float(np.abs(sound.samples).max(initial=0.0)) < SILENCE:
        raise SoundError("silent", "nothing in the file is louder than -60 dBFS")
