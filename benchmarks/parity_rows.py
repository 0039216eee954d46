"""One line of the parity table, and how it is measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Row:
    """One comparison: the largest error (or the number of ids that differ) and what is allowed."""

    what: str
    shape: tuple[int, ...]
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """The error is a number within what is allowed."""
        return self.error <= self.allowed


def close(what: str, ours: Tensor, theirs: Tensor) -> Row:
    """Largest absolute difference; infinite where the shapes differ."""
    same = ours.shape == theirs.shape
    return Row(what, tuple(theirs.shape), float((ours - theirs).abs().max()) if same else float("inf"), TOLERANCE)


def identical(what: str, ours: Tensor, theirs: Tensor) -> Row:
    """Number of ids that differ; infinite where the shapes differ."""
    same = ours.shape == theirs.shape
    return Row(what, tuple(theirs.shape), float((ours != theirs).sum()) if same else float("inf"), 0.0)
