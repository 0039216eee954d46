"""The watermarks that are compared: ours, and those that install beside it with their weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vivavoce.sound import SPEECH_RATE, Samples, resample
from vivavoce.watermark import Marker, Segment
from vivavoce.watermark.code import Reading

OURS, PERTH = "Vivavoce", "Perth"
Who = Callable[[Reading], int | None]

SECRET = bytes(range(32))  # of the benchmark's operator


@dataclass(frozen=True)
class Look:
    """What a system says about a sound.

    Attributes:
        score: The higher the likelier marked.
        found: At the system's own threshold.
        verdict: In the system's words.
        segments: Where the mark is; empty where a system does not tell.
        reading: Soft code bits; None where there are none.
    """

    score: float
    found: bool
    verdict: str
    segments: tuple[Segment, ...] = ()
    reading: Reading | None = None


class System(Protocol):
    """A watermark."""

    name: str

    def embed(self, samples: Samples, identity: int) -> Samples:
        """Mark float32[n] at 24 kHz."""

    def look(self, samples: Samples, rate: int, *, search: bool = True) -> Look:
        """Look for the mark."""


class Ours:
    """The product's marker, at its shipped threshold."""

    name = OURS

    def __init__(self, weights: Path | None = None) -> None:
        self.marker = Marker.load(weights, secret=SECRET)

    def embed(self, samples: Samples, identity: int) -> Samples:
        """Mark float32[n] at 24 kHz."""
        return self.marker.embed(samples, SPEECH_RATE, identity)

    def look(self, samples: Samples, rate: int, *, search: bool = True) -> Look:
        """Look for the mark; `search` for changes of speed and pitch, too."""
        seen = self.marker.detect(samples, rate, search=search)
        return Look(seen.score, seen.found, str(seen.verdict), seen.segments, seen.reading)

    def segments(self, samples: Samples, rate: int, who: Who | None) -> tuple[Segment, ...]:
        """Where the mark is, with or without a registry to ask whose it is."""
        return self.marker.detect(samples, rate, who=who).segments


class Perth:
    """Resemble AI's implicit mark (`resemble-perth`): presence alone, no message; found from a confidence of 0.5 on."""

    name = PERTH

    def __init__(self) -> None:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):  # it tells of its weights and of its imports
            warnings.simplefilter("ignore")
            import perth

            self._marker = perth.PerthImplicitWatermarker()
        self._rate = int(self._marker.perth_net.hp.sample_rate)

    def embed(self, samples: Samples, identity: int) -> Samples:  # noqa: ARG002 - there is no message
        """Mark float32[n] at 24 kHz; brought to and from its own rate by the resampler that ours uses."""
        marked = self._marker.apply_watermark(resample(samples, SPEECH_RATE, self._rate), sample_rate=self._rate)
        return np.resize(resample(marked, self._rate, SPEECH_RATE), len(samples))

    def look(self, samples: Samples, rate: int, *, search: bool = True) -> Look:  # noqa: ARG002 - there is no search
        """Look for the mark."""
        at_rate: NDArray[np.float32] = resample(samples, rate, self._rate)
        score = float(np.nan_to_num(self._marker.get_watermark(at_rate, sample_rate=self._rate, round=False)))
        return Look(score, score >= 0.5, "found" if score >= 0.5 else "not found")


def systems(names: tuple[str, ...], weights: Path | None) -> list[System]:
    """The systems of these names, loaded."""
    return [Ours(weights) if name == OURS else Perth() for name in names]


def installed_peers() -> tuple[str, ...]:
    """Names of the peers whose packages are there."""
    try:
        import librosa  # noqa: F401 - Perth needs it and does not say so
        import perth  # noqa: F401
    except ImportError:
        return ()
    return (PERTH,)
