"""Sound files: bytes in, samples out, and back. No torch.

`open_sound` takes any file and gives its samples block by block, `decode` all at once; what they cannot take is a
`SoundError`. `encode` turns samples into a file; of all packages only `vivavoce.release` may call it, because a sound
leaves this house by one door.
"""

from vivavoce.sound.decode import MIN_MARKED_SECONDS, Sound, decode, require_speech
from vivavoce.sound.encode import FORMATS, MEDIA_TYPES, SPEECH_RATE, Format, encode, resample
from vivavoce.sound.errors import SoundCode, SoundError
from vivavoce.sound.labels import tag
from vivavoce.sound.stream import Samples, SoundStream, open_sound
from vivavoce.sound.tempo import FASTEST, SLOWEST, TempoChanger, change_tempo

__all__ = [
    "FASTEST",
    "FORMATS",
    "MEDIA_TYPES",
    "MIN_MARKED_SECONDS",
    "SLOWEST",
    "SPEECH_RATE",
    "Format",
    "Samples",
    "Sound",
    "SoundCode",
    "SoundError",
    "SoundStream",
    "TempoChanger",
    "change_tempo",
    "decode",
    "encode",
    "open_sound",
    "require_speech",
    "resample",
    "tag",
]
