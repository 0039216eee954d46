"""Speech clips for training the tokenizer: folders of audio files, cut at random places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

SUFFIXES = {".flac", ".ogg", ".opus", ".wav"}
LEVEL = 0.06  # root mean square that every file is brought to, before a random gain
GAINS = (0.4, 2.0)
ROUNDED = 0.5  # share of crops with the noise floor of 16-bit files
WARPED = 0.5  # share of crops played slower or faster, which makes other speakers of them
WARPS = (0.86, 1.16)  # factors of tempo and pitch
HELD_OUT_EVERY = 10  # one speaker of ten, by a hash of the name, is kept for measuring
MANIFEST = "manifest.jsonl"
LEFT_OUT = "left_out"  # of a manifest's line: why nothing is trained on it
Line = dict[str, Any]


@dataclass(frozen=True)
class Spoken:
    """Which token of the spoken text (see `vivavoce.model.spoken`) begins when, in seconds."""

    tokens: tuple[str, ...]
    starts: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Source:
    """An audio file, and what is said in it as far as its manifest tells."""

    path: Path
    spoken: Spoken | None


@dataclass(frozen=True)
class Crops:
    """A batch: waves float32[rows, samples], and per row its words, seconds into the crop; None where unknown."""

    waves: Tensor
    spoken: tuple[Spoken | None, ...]


def sources(folder: Path, *, held_out: bool = False) -> list[Source]:
    """Audio files below a folder: those for training, or those held out.

    A manifest names each file's speaker, its `split`, and, where it has `tokens` and `starts`, its words; files that it
    does not name are left out, so that a folder that is still being filled can be read. Without a manifest all files
    are taken, and the speaker is what stands before the first "-" of a file's name, as in LibriSpeech.
    """
    if (folder / MANIFEST).is_file():
        return [
            Source(audio_file(folder, line["id"]), _spoken(line))
            for line in read_manifest(folder / MANIFEST)
            if LEFT_OUT not in line and (line.get("split") == "held out" or is_held_out(line["speaker"])) == held_out
        ]
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return [Source(path, None) for path in paths if is_held_out(path.stem.split("-")[0]) == held_out]


def read_manifest(path: Path) -> list[Line]:
    """Lines of a manifest; a last one that was cut off is left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def write_manifest(path: Path, lines: Sequence[Line]) -> None:
    """Replace a manifest as a whole."""
    half = path.with_name(f"{path.name}.half")
    half.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    half.replace(path)


def is_held_out(name: str) -> bool:
    """Whether a speaker is kept for measuring; the same name always is, whatever else a folder holds."""
    return crc32(name.encode()) % HELD_OUT_EVERY == 0


def audio_file(folder: Path, name: str) -> Path:
    """The file of a manifest's clip, whatever its format."""
    return next(path for suffix in sorted(SUFFIXES) if (path := folder / "audio" / f"{name}{suffix}").is_file())


def _spoken(line: dict[str, object]) -> Spoken | None:
    tokens, starts = line.get("tokens"), line.get("starts")
    if not isinstance(tokens, list) or not isinstance(starts, list):
        return None
    return Spoken(tuple(tokens), np.asarray(starts, dtype=np.float32) / 1000)


class Clips:
    """Random crops out of all audio files below some folders; files are read once and kept in memory.

    Half of the crops are rounded to 16 bits. Rounding lifts the log-mel of silent bands by several units, above all
    above 8 kHz in speech that was recorded at 16 kHz: a model that knows only one of the two floors fails on the other.
    """

    def __init__(self, folders: Sequence[Path], sample_rate: int) -> None:
        """Each folder gets an equal share, however many files it holds; one that is named twice gets two."""
        self.groups = [group for folder in folders if (group := sources(folder))]
        if not self.groups:
            raise FileNotFoundError(f"no audio files in {', '.join(map(str, folders))}")
        self.sample_rate = sample_rate
        self._read: dict[Path, NDArray[np.float32]] = {}

    def batch(self, rows: int, samples: int, random: np.random.Generator) -> Crops:
        """Crops of `samples` samples; short files are padded with silence."""
        drawn = [self._crop(samples, random) for _ in range(rows)]
        return Crops(torch.from_numpy(np.stack([wave for wave, _ in drawn])), tuple(spoken for _, spoken in drawn))

    def _crop(self, samples: int, random: np.random.Generator) -> tuple[NDArray[np.float32], Spoken | None]:
        group = self.groups[random.integers(len(self.groups))]
        source = group[random.integers(len(group))]
        wave = self._wave(source.path)
        warp = float(random.uniform(*WARPS)) if random.random() < WARPED else 1.0
        needed = round(samples * warp)
        start = int(random.integers(max(1, len(wave) - needed + 1)))
        crop = wave[start : start + needed].astype(np.float32)
        if warp != 1:
            crop = soxr.resample(crop, self.sample_rate * warp, self.sample_rate, quality="MQ")[:samples]
        crop = crop * np.exp(random.uniform(*np.log(GAINS)))
        crop = np.clip(np.pad(crop, (0, samples - len(crop))), -1, 1)
        if random.random() < ROUNDED:
            crop = np.round(crop * 32767) / 32767
        return np.asarray(crop, dtype=np.float32), self._words(source.spoken, start, warp)

    def _words(self, spoken: Spoken | None, start: int, warp: float) -> Spoken | None:
        if spoken is None:
            return None
        starts = (spoken.starts - start / self.sample_rate) / warp
        return Spoken(spoken.tokens, np.asarray(starts, dtype=np.float32))

    def _wave(self, path: Path) -> NDArray[np.float32]:
        if path not in self._read:
            wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
            mono = soxr.resample(wave.mean(1), rate, self.sample_rate)
            mono *= LEVEL / max(float(np.sqrt(np.mean(np.square(mono)))), 1e-4)
            self._read[path] = mono.astype(np.float32)
        return self._read[path]
