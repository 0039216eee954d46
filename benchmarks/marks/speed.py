"""Seconds of computing for a second of sound, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.marks.clips import CLIP_SECONDS, Clip
from benchmarks.marks.systems import System
from vivavoce.sound import SPEECH_RATE, Samples

CLIPS = 5  # after one that warms up


@dataclass(frozen=True)
class Speed:
    """Real-time factors: processor time over the sound's length, means over clips of 10 s.

    Attributes:
        embed: Marking.
        verify: Looking at the sound as it was made, as a release does.
        find: Looking at a marked sound for a mark that may have been sped up, stretched or pitched.
        find_nothing: The same for an unmarked sound: everything has to be tried.
    """

    system: str
    embed: float
    verify: float
    find: float
    find_nothing: float


def speed(system: System, clips: tuple[Clip, ...]) -> Speed:
    """Measure on a few clips, in this process."""
    chosen = [clips[number % len(clips)] for number in range(CLIPS + 1)]
    marked = [system.embed(clip.samples, number) for number, clip in enumerate(chosen)]
    waves = [clip.samples for clip in chosen]
    return Speed(
        system.name,
        _factor(lambda wave: system.embed(wave, 1), waves),
        _factor(lambda wave: system.look(wave, SPEECH_RATE, search=False), marked),
        _factor(lambda wave: system.look(wave, SPEECH_RATE), marked),
        _factor(lambda wave: system.look(wave, SPEECH_RATE), waves),
    )


def _factor(call: Callable[[Samples], object], waves: list[Samples]) -> float:
    call(waves[0])
    began = time.process_time()
    for wave in waves[1:]:
        call(wave)
    return (time.process_time() - began) / (CLIP_SECONDS * (len(waves) - 1))
