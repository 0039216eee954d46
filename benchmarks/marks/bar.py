"""What was asked of the marks, held against what was measured. Whatever is missed is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.marks.edits import EDITS
from benchmarks.marks.plan import SPLICE_FORMS
from benchmarks.marks.results import FALSE_POSITIVES, Column, Results
from benchmarks.marks.systems import OURS

DIGITS = 4  # after the point: what is shown, and what is judged by
LENGTH = 10  # seconds: what the bar is for
FOUND = {"easy": (0.98, 1.0), "hard": (0.90, 0.99), "warp": (0.90, 0.99), "open": (None, 0.90)}
BORDER_SECONDS = 0.05
EMBED_VERIFY = (0.15, 0.05)


@dataclass(frozen=True)
class Demand:
    """One row of the bar.

    Attributes:
        what: In words.
        must: The least, or the most where `lower` is set; None where it only has to be measured.
        aim: What would be better still.
        measured: NaN where this run did not measure it.
        lower: Whether lower is better.
    """

    what: str
    must: float | None
    aim: float
    measured: float
    lower: bool = False

    @property
    def verdict(self) -> str:
        """In words: `below` is what has to be worked on."""
        if np.isnan(self.measured):
            return "not measured"
        if self._reaches(self.aim):
            return "aim reached"
        if self.must is None:
            return "published, below the aim"
        return "met" if self._reaches(self.must) else "**below the bar**"

    def _reaches(self, wanted: float) -> bool:
        measured = round(self.measured, DIGITS)
        return measured <= wanted if self.lower else measured >= wanted


def demands(results: Results) -> Iterator[Demand]:
    """All rows of the bar, for clips of 10 s."""
    yield Demand("PESQ-WB, mean", 3.8, 4.3, _mean(results.figures(OURS, "pesq")))
    yield Demand("SI-SNR in dB, mean", 18, 24, _mean(results.figures(OURS, "si_snr")))
    unmarked = results.false_positives(OURS)
    yield Demand(f"unmarked clips found ({unmarked.count})", FALSE_POSITIVES, 0, unmarked.value, lower=True)
    for edit in EDITS:
        if edit.name in results.measured and edit.name != "crop to 50 %":
            must, aim = FOUND[edit.row]
            yield Demand(
                f"found: {edit.name}", must, aim, results.found(Column(OURS, shipped=True), edit.name, LENGTH).value
            )
    for name, must in (("MP3 64 kbit/s", 0.98), ("crop to 50 %", 0.95)):
        yield Demand(f"bits of the identity, decoded: {name}", must, 1.0, results.bits(name, LENGTH, "bits"))
        yield Demand(f"code bits, before decoding: {name}", must, 1.0, results.bits(name, LENGTH, "code_bits"))
    together = results.speed(OURS, "embed") + results.speed(OURS, "verify")
    yield Demand("embed and verify, real-time factor on one thread", *EMBED_VERIFY, together, lower=True)
    for inside in ("marked", "unmarked"):
        errors = [error for form in SPLICE_FORMS for error in results.splices(inside, form, registry=True)[1]]
        median = float(np.median(errors)) if errors else float("nan")
        yield Demand(f"borders, {inside} piece set in: median error in s", BORDER_SECONDS, 0.02, median, lower=True)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
