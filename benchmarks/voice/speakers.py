"""The voices of the benchmark: whom the model is given, and what else they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.voice.measures import Sound
from vivavoce.model.training.clips import MANIFEST, Line, audio_file, is_held_out, read_manifest

REFERENCE_SECONDS = 3.2
SOURCE_SECONDS = 5.0
SEXES = {"f": "female", "m": "male"}
ACCENTS = {"a": "American", "b": "British"}


@dataclass(frozen=True)
class Speaker:
    """A voice that no training has heard.

    Attributes:
        name: of the voice.
        reference: what the model is given.
        rest: something else that the voice says.
        said: the words of `rest`; None where whisper has to tell them.
        groups: what the voice counts towards, such as "female".
    """

    name: str
    reference: Sound
    rest: Sound
    said: str | None = None
    groups: tuple[str, ...] = ()


def cut(name: str, sound: Sound) -> Speaker:
    """A speaker out of one recording whose words are not known."""
    end = REFERENCE_SECONDS + SOURCE_SECONDS
    return Speaker(name, sound.part(0, REFERENCE_SECONDS), sound.part(REFERENCE_SECONDS, end))


def recorded(folder: Path) -> list[Speaker]:
    """Unseen speakers of a folder of recordings named SPEAKER-anything."""
    found = []
    for path in sorted(folder.rglob("*.flac")):
        name = path.name.partition("-")[0]
        if is_held_out(name):
            sound = Sound.read(path)
            if sound.seconds >= REFERENCE_SECONDS + SOURCE_SECONDS:
                found.append(cut(name, sound))
    return found


def synthetic(folder: Path) -> list[Speaker]:
    """Unseen voices of a folder that `vivavoce data synth` filled: of each, one clip as reference and another one."""
    lines = [line for line in read_manifest(folder / MANIFEST) if line.get("split") == "held out"]
    found = []
    for name, said in groupby(sorted(lines, key=_voice), key=_voice):
        reference, *others = sorted(said, key=lambda line: (line["seconds"] < REFERENCE_SECONDS, line["id"]))
        rest = next((line for line in others if line["text"] != reference["text"]), None)
        if rest is not None and reference["seconds"] >= REFERENCE_SECONDS:
            sounds = [Sound.read(audio_file(folder, line["id"])) for line in (reference, rest)]
            found.append(Speaker(name, sounds[0].part(0, REFERENCE_SECONDS), sounds[1], rest["text"], groups_of(name)))
    return found


def groups_of(name: str) -> tuple[str, ...]:
    """Groups by the name of a teacher's voice: `bf_lily*0.9` is British and female, however it is warped."""
    return SEXES[name[1]], ACCENTS[name[0]]


def spread(found: list[Speaker], most: int) -> list[Speaker]:
    """At most so many of them, evenly taken."""
    places = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
    return [found[place] for place in places]


def another(speakers: Sequence[Speaker], number: int, step: int) -> int:
    """The nearest speaker in that direction with another voice: a warped copy is no stranger. Itself if all are one."""
    own = speakers[number].name.partition("*")[0]
    places = ((number + step * away) % len(speakers) for away in range(1, len(speakers)))
    return next((place for place in places if speakers[place].name.partition("*")[0] != own), number)


def _voice(line: Line) -> str:
    return str(line["speaker"])
