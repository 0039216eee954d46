"""A sound drawn as a row of bars, in the coordinates of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vivavoce.provenance.report import Segment
from vivavoce.sound import Samples

WIDTH, HEIGHT = 1000, 160
_BARS = 500
_LEAST = 1.0  # height of silence, so that the line goes on


@dataclass(frozen=True)
class Waveform:
    """What the template draws.

    Attributes:
        path: The bars, as the `d` of an SVG path.
        spans: From and to, horizontally, of the parts that carry the mark.
    """

    path: str
    spans: tuple[tuple[float, float], ...]
    width: int = WIDTH
    height: int = HEIGHT


def waveform(samples: Samples, sample_rate: int, segments: Sequence[Segment]) -> Waveform:
    """Draw float32[samples], mono, with the parts that carry the mark."""
    bars = np.array([float(np.abs(part).max(initial=0.0)) for part in np.array_split(samples, _BARS)])
    tall = np.maximum(bars / max(float(bars.max()), 1e-9) * (HEIGHT / 2 - 2), _LEAST / 2)
    step, middle = WIDTH / _BARS, HEIGHT / 2
    path = "".join(f"M{(n + 0.5) * step:.1f} {middle - h:.1f}V{middle + h:.1f}" for n, h in enumerate(tall.tolist()))
    seconds = len(samples) / sample_rate
    spans = tuple((WIDTH * one.start_s / seconds, WIDTH * min(1.0, one.end_s / seconds)) for one in segments)
    return Waveform(path, spans)
