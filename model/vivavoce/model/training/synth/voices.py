"""Voices of the teacher, and new ones made of them.

A voice is a table of styles, one for each length of text: float32[510, 256]. The first half of a style is timbre, the
second prosody, and the two can come from different voices. Mixtures of two timbres are new speakers; so is every voice
played faster or slower. Two timbres under one prosody say a text in exactly the same time: a pair for conversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ENGLISH = ("af", "am", "bf", "bm")  # American and British, female and male
BAD = frozenset({"af_nicole"})  # whispers
# Neither their timbre nor their prosody is ever trained on: an unseen voice is one of these.
HELD_OUT = frozenset({"af_sky", "am_liam", "bf_lily", "bm_lewis"})
HALF = 128
WARPS = (0.84, 0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.18)
MIXED = 0.6  # share of voices that are mixtures
PAIRED = 0.4  # share of texts that are said in two voices
SHARES = (0.25, 0.75)  # of the first voice in a mixture

Table = NDArray[np.float32]


@dataclass(frozen=True)
class Timbre:
    """One voice, or a mixture of two with `share` of the first."""

    first: str
    second: str | None = None
    share: float = 1.0

    @property
    def name(self) -> str:
        """Name for manifests."""
        return self.first if self.second is None else f"{self.first}+{self.second}@{self.share:.2f}"


@dataclass(frozen=True)
class Cast:
    """Who says a text: one timbre, or two of a pair; `warp` is the factor on the rate of playing."""

    timbres: tuple[Timbre, ...]
    prosody: str
    warp: float


def names(folder: Path, *, held_out: bool) -> list[str]:
    """English voices in a folder of `*.bin` tables: those for training, or those held out.

    Raises:
        FileNotFoundError: there are none.
    """
    found = sorted(path.stem for path in folder.glob("*.bin") if path.stem[:2] in ENGLISH and path.stem not in BAD)
    kept = [name for name in found if (name in HELD_OUT) == held_out]
    if not kept:
        raise FileNotFoundError(f"{folder} holds no English voices")
    return kept


def draw_cast(voices: list[str], random: np.random.Generator, *, mixtures: bool) -> Cast:
    """Draw who speaks; all that comes together in one utterance is of one gender."""
    prosody = voices[random.integers(len(voices))]
    alike = [name for name in voices if name[1] == prosody[1]]
    count = 2 if random.random() < PAIRED and len(alike) > 1 else 1
    timbres: list[Timbre] = []
    while len(timbres) < count:
        drawn = _timbre(alike, random, mixtures=mixtures)
        if all(drawn.first != other.first for other in timbres):
            timbres.append(drawn)
    return Cast(tuple(timbres), prosody, float(random.choice(WARPS)))


def _timbre(voices: list[str], random: np.random.Generator, *, mixtures: bool) -> Timbre:
    order = random.permutation(len(voices))
    if mixtures and len(voices) > 1 and random.random() < MIXED:
        return Timbre(voices[order[0]], voices[order[1]], round(float(random.uniform(*SHARES)), 2))
    return Timbre(voices[order[0]])


def style(folder: Path, timbre: Timbre, prosody: str, length: int) -> Table:
    """Style float32[1, 256] for a text of `length` ids."""
    own = _table(folder / f"{timbre.first}.bin")
    if timbre.second is not None:
        own = timbre.share * own + (1 - timbre.share) * _table(folder / f"{timbre.second}.bin")
    row = min(length, len(own)) - 1
    joined = np.concatenate((own[row, :HALF], _table(folder / f"{prosody}.bin")[row, HALF:]))
    return joined[None].astype(np.float32)


@cache
def _table(path: Path) -> Table:
    return np.fromfile(path, dtype=np.float32).reshape(-1, 2 * HALF)
