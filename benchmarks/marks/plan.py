"""What a run measures: its clips, its edits, and the jobs that they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np

from benchmarks.marks.clips import Clip
from benchmarks.marks.edits import EDITS

SEED = 2026
REGISTERED = 100_000  # identities that a mark is resolved among, beside its own
UNMARKED_TEN_EVERY = 2  # of the unmarked clips, every other one is looked at over all of its 10 s; all over 1 s and 3 s
SPLICE_FORMS = ("none", "MP3 64 kbit/s", "Opus 32 kbit/s")

Kind = Literal["speed", "quality", "edit", "splice"]
Row = dict[str, Any]  # one line of what was measured, as JSON keeps it


@dataclass(frozen=True)
class Job:
    """A unit of work: one clip, and the edit or the splice that it goes through. Speed is measured on several."""

    kind: Kind
    clip: int
    edit: str = ""

    @property
    def key(self) -> str:
        """Its name in the run's records."""
        return f"{self.kind}/{self.clip}/{self.edit}"


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        clips: What is marked.
        systems: Names of the watermarks.
        folder: Where records and marked clips are kept.
        weights: A folder of weights instead of the shipped ones.
        splices: How many clips splices are made of.
    """

    clips: tuple[Clip, ...]
    systems: tuple[str, ...]
    folder: Path
    weights: Path | None
    splices: int

    def jobs(self) -> list[Job]:
        """All jobs: speed first; then clip by clip in an order that mixes sources: half a run says something, too."""
        order = sorted(range(len(self.clips)), key=lambda clip: crc32(self.clips[clip].name.encode()))
        jobs = [Job("speed", 0), *(Job("quality", clip) for clip in order)]
        jobs += [Job("splice", clip, form) for clip in order[: self.splices] for form in SPLICE_FORMS]
        return jobs + [Job("edit", clip, edit.name) for clip in order for edit in EDITS]


def generator(*names: object) -> np.random.Generator:
    """Random numbers that depend on the names alone: the same in every run and in any order of jobs."""
    return np.random.default_rng((SEED, crc32("/".join(map(str, names)).encode())))
