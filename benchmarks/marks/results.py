"""Records of a run, asked the questions that the tables answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, nan
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.marks.edits import EDITS
from benchmarks.marks.plan import Row
from benchmarks.marks.run import rows
from benchmarks.marks.stats import Share, share, threshold_at
from benchmarks.marks.systems import OURS

LENGTHS = (1, 3, 10)  # seconds
FALSE_POSITIVES = 1e-3


@dataclass(frozen=True)
class Column:
    """A watermark at a threshold: as it is shipped, or one that finds at most 1 of 1,000 unmarked clips of the run."""

    system: str
    shipped: bool

    @property
    def name(self) -> str:
        """For tables."""
        return self.system if self.system == OURS else f"{self.system}, {'as shipped' if self.shipped else 'at 1e-3'}"


@dataclass(frozen=True)
class Results:
    """A run's records.

    Attributes:
        folder: Of the run.
        about: Model, threshold, clips (`benchmarks.marks.run.run`).
    """

    folder: Path
    about: dict[str, Any]

    @cached_property
    def _seen(self) -> list[Row]:
        return rows(self.folder, "edit")

    @cached_property
    def quality(self) -> list[Row]:
        """SI-SNR, PESQ and STOI of each clip and system."""
        return rows(self.folder, "quality")

    @cached_property
    def _speeds(self) -> list[Row]:
        return rows(self.folder, "speed")

    @cached_property
    def _splices(self) -> list[Row]:
        return rows(self.folder, "splice")

    @property
    def systems(self) -> list[str]:
        """Names of the watermarks, ours first."""
        return list(self.about["systems"])

    @property
    def measured(self) -> list[str]:
        """Names of the edits on record, in their order."""
        on_record = {row["edit"] for row in self._seen}
        return [edit.name for edit in EDITS if edit.name in on_record]

    def looks(self, system: str, *, marked: bool, edit: str | None = None, seconds: int | None = None) -> list[Row]:
        """All looks of a kind."""
        return [
            row
            for row in self._seen
            if (row["system"], row["marked"]) == (system, marked)
            and edit in (None, row["edit"])
            and seconds in (None, row["seconds"])
        ]

    @cached_property
    def _thresholds(self) -> dict[str, float]:
        """The peers', set on the unmarked clips of this run, so that at most one of 1,000 lies above."""
        scores = {peer: [row["score"] for row in self.looks(peer, marked=False)] for peer in self.systems}
        return {peer: threshold_at(own, FALSE_POSITIVES) for peer, own in scores.items() if own}

    def threshold(self, system: str) -> float:
        """Ours as shipped; a peer's as set on the unmarked clips of this run."""
        return float(self.about["threshold"]) if system == OURS else self._thresholds[system]

    @property
    def columns(self) -> list[Column]:
        """Ours as shipped; each peer at the threshold of this run, and as it is shipped."""
        peers = [Column(peer, shipped) for peer in self.systems if peer != OURS for shipped in (False, True)]
        return [Column(OURS, shipped=True), *peers]

    def found(self, column: Column, edit: str, seconds: int) -> Share:
        """True positives."""
        looks = self.looks(column.system, marked=True, edit=edit, seconds=seconds)
        if column.shipped:
            return share([row["found"] for row in looks])
        least = self._thresholds[column.system]
        return share([row["score"] > least for row in looks])

    @cached_property
    def clips(self) -> list[tuple[str, str, str]]:
        """Name, speaker and source of the clips on record: all of them, unless the run was stopped."""
        on_record = {row["clip"] for row in self._seen}
        return [(name, speaker, source) for name, speaker, source in self.about["clips"] if name in on_record]

    @cached_property
    def done(self) -> Share:
        """How many of the planned pairs of a clip and an edit are on record."""
        pairs = {(row["clip"], row["edit"]) for row in self._seen}
        return Share(len(pairs), len(self.about["clips"]) * len(self.about["edits"]))

    @property
    def sources(self) -> list[str]:
        """Where the clips are from."""
        return sorted({source for _, _, source in self.clips})

    def found_of(self, source: str, seconds: int) -> Share:
        """True positives of ours on the clips of one source, over all edits."""
        own = {clip for clip, _, where in self.clips if where == source}
        looks = self.looks(OURS, marked=True, seconds=seconds)
        return share([row["found"] for row in looks if row["clip"] in own])

    def false_positives(self, system: str) -> Share:
        """Unmarked clips found at the system's own threshold."""
        return share([row["found"] for row in self.looks(system, marked=False)])

    def bits(self, edit: str, seconds: int, kind: Literal["bits", "code_bits"]) -> float:
        """Mean accuracy of an identity's bits, or of the code bits; NaN where the edit was not measured so long."""
        looks = self.looks(OURS, marked=True, edit=edit, seconds=seconds)
        return float(np.mean([row[kind] for row in looks])) if looks else float("nan")

    def exact(self, edit: str, seconds: int) -> Share:
        """How often exactly the right one of the registered identities is named."""
        looks = self.looks(OURS, marked=True, edit=edit, seconds=seconds)
        return share([row["resolved"] == "own" for row in looks])

    def false_attributions(self, *, marked: bool) -> Share:
        """How often a wrong identity is named."""
        return share([row["resolved"] == "wrong" for row in self.looks(OURS, marked=marked)])

    def figures(self, system: str, name: str) -> list[float]:
        """One figure of quality for each clip; empty where it was not measured."""
        return [row[name] for row in self.quality if row["system"] == system and row[name] is not None]

    def splices(self, inside: str, edit: str, *, registry: bool) -> tuple[list[float], list[float]]:
        """Overlaps, and errors of borders in seconds (infinite where nothing was said), of one kind of splice."""
        kind = (inside, edit, registry)
        own = [row for row in self._splices if (row["inside"], row["edit"], row["registry"]) == kind]
        errors = [inf if error is None else error for row in own for error in row["errors"]]
        return [row["iou"] for row in own], errors

    def speed(self, system: str, name: str) -> float:
        """A real-time factor (`benchmarks.marks.speed.Speed`)."""
        return float(next((row[name] for row in self._speeds if row["system"] == system), nan))
