"""Real speech to measure on: 10 s clips of named speakers, from folders of audio.

Three sources are known by how their files lie: Debian's prompts for the Asterisk telephone exchange (raw G.722, a
folder for each speaker), LibriSpeech (the speaker's number begins the file's name), and folders with a
`manifest.jsonl` that names speakers, as `tests/data/speech` has. Any other folder counts as one speaker.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile

from vivavoce.sound import SPEECH_RATE, Samples, resample
from vivavoce.watermark.training.data import SUFFIXES, speech_files

CLIP_SECONDS = 10
SHORTEST_PROMPT = 0.8  # seconds: shorter prompts are single letters and clicks
SHORTEST_SPEECH = 2.4  # seconds of one speaker; what is shorter than a clip is repeated
QUIETEST = 3e-3  # loudness (-50 dBFS) below which a file is a pause
TONAL = 0.5  # share of the power in the three strongest of 2,048 bins: above it a file is a beep
_G722_RATE = 16_000  # Hz


@dataclass(frozen=True)
class Clip:
    """Speech of one person.

    Attributes:
        name: Unique among the clips of a run.
        speaker: Who speaks.
        source: Folder that it is from, or the corpus where that is known.
        samples: float32[10 s] at 24 kHz.
    """

    name: str
    speaker: str
    source: str
    samples: Samples


def clips_of(unseen: Sequence[Path], trained_on: Sequence[Path], per_speaker: int) -> list[Clip]:
    """Clips of 10 s, at most `per_speaker` of each speaker, sorted by source and speaker.

    Args:
        unseen: Folders that training was never given.
        trained_on: Folders that it was given: only the files that it holds out, by a hash of their names, are taken.
        per_speaker: The most clips of one speaker.
    """
    files = [file for folder in unseen for file in sorted(folder.rglob("*")) if file.suffix in {*SUFFIXES, ".g722"}]
    files += speech_files(trained_on, held_out=True)
    speakers: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in files:
        speakers[speaker_of(file)].append(file)
    return [
        Clip(f"{speaker}-{number}", speaker, source, samples)
        for (source, speaker), own in sorted(speakers.items())
        for number, samples in enumerate(cuts(map(read, own), per_speaker))
    ]


def speaker_of(file: Path) -> tuple[str, str]:
    """Source and speaker of a file, as its place and name tell."""
    manifest = file.with_name("manifest.jsonl")
    if manifest.is_file():
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        known = {row["file"]: row["speaker"] for row in rows if "speaker" in row}
        if file.name in known:
            return file.parent.name, str(known[file.name])
    if file.suffix == ".g722" and "sounds" in file.parts:
        # en_US_f_Allison and es_MX_f_Allison are one person.
        return "Asterisk prompts", file.parts[file.parts.index("sounds") + 1].rsplit("_", 1)[-1]
    if reader := re.fullmatch(r"(\d+)-\d+-\d+", file.stem):
        return "LibriSpeech", reader[1]
    return file.parent.name, file.parent.name


def read(file: Path) -> Samples:
    """A file's sound, mono, at 24 kHz."""
    if file.suffix == ".g722":
        with av.open(str(file), format="g722") as source:
            blocks = [frame.to_ndarray().reshape(-1) for frame in source.decode(source.streams.audio[0])]
        wave, rate = np.concatenate(blocks).astype(np.float32) / 32768, _G722_RATE
    else:
        channels, rate = soundfile.read(file, dtype="float32", always_2d=True)
        wave = channels.mean(axis=1)
    return resample(np.asarray(wave, dtype=np.float32), rate, SPEECH_RATE)


def cuts(files: Iterable[Samples], most: int) -> Iterator[Samples]:
    """Up to `most` clips of 10 s, made of the spoken files one after the other, each with its own pauses."""
    size = CLIP_SECONDS * SPEECH_RATE
    left = np.zeros(0, dtype=np.float32)
    given = 0
    for wave in files:
        if given == most:
            return
        if not spoken(wave):
            continue
        left = np.concatenate([left, wave])
        if len(left) >= size:
            yield left[:size]
            given, left = given + 1, np.zeros(0, dtype=np.float32)
    if given == 0 and len(left) >= SHORTEST_SPEECH * SPEECH_RATE:
        yield np.resize(left, size)


def spoken(wave: Samples) -> bool:
    """Whether a file is speech and no beep, click or pause."""
    if len(wave) < SHORTEST_PROMPT * SPEECH_RATE or float(wave.std()) < QUIETEST:
        return False
    frames = wave[: len(wave) // 2048 * 2048].reshape(-1, 2048) * np.hanning(2048).astype(np.float32)
    power = (np.abs(np.fft.rfft(frames, axis=1)) ** 2).sum(axis=0)
    return float(np.sort(power)[-3:].sum() / power.sum()) < TONAL
