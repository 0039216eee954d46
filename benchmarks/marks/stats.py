"""Shares with their intervals, and thresholds from scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

Z95 = 1.959964  # standard deviations of a normal distribution that hold 95 %


@dataclass(frozen=True)
class Share:
    """How many of how many, with the 95 % interval of Wilson (1927)."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        """The share; NaN of none."""
        return self.hits / self.count if self.count else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        if not self.count:
            return 0.0, 1.0
        share, n, squared = self.value, self.count, Z95**2
        middle = (share + squared / (2 * n)) / (1 + squared / n)
        half = Z95 / (1 + squared / n) * sqrt(share * (1 - share) / n + squared / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


def share(found: Sequence[bool]) -> Share:
    """The share of what is true."""
    return Share(sum(found), len(found))


def threshold_at(scores: Sequence[float], rate: float) -> float:
    """The lowest of the unmarked sounds' scores that at most the given share of them lies above."""
    ordered = np.sort(np.asarray(scores))[::-1]
    return float(ordered[int(rate * len(ordered))])
