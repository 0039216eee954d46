"""Records of a run, asked the questions that the tables answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf
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
class Results:
    """A run's records.

    Attributes:
        folder: Of the run.
        about: Model, threshold, clips, speeds (`benchmarks.marks.run.run`).
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

    def threshold(self, system: str) -> float:
        """Ours as shipped; a peer's is set on the unmarked clips of this run, so that one of 1,000 is found at most."""
        if system == OURS:
            return float(self.about["threshold"])
        return threshold_at([row["score"] for row in self.looks(system, marked=False)], FALSE_POSITIVES)

    def found(self, system: str, edit: str, seconds: int) -> Share:
        """True positives: ours at the shipped threshold, a peer above `threshold`."""
        looks = self.looks(system, marked=True, edit=edit, seconds=seconds)
        if system == OURS:
            return share([row["found"] for row in looks])
        least = self.threshold(system)
        return share([row["score"] > least for row in looks])

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

    def splices(self, inside: str, edit: str) -> tuple[list[float], list[float]]:
        """Overlaps, and errors of borders in seconds (infinite where nothing was said), of one kind of splice."""
        own = [row for row in rows(self.folder, "splice") if (row["inside"], row["edit"]) == (inside, edit)]
        errors = [inf if error is None else error for row in own for error in row["errors"]]
        return [row["iou"] for row in own], errors

    def speed(self, system: str, name: str) -> float:
        """A real-time factor (`benchmarks.marks.speed.Speed`)."""
        return float(next(row[name] for row in self.about["speed"] if row["system"] == system))
