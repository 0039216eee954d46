"""Faster and slower at the same pitch: FFmpeg's `atempo`, which overlaps and adds similar pieces (WSOLA; Verhelst and
Roelands 1993)."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from vivavoce.sound.stream import Samples

SLOWEST, FASTEST = 0.25, 4.0
"""Speeds that clients of OpenAI's speech route know."""

_SLOWEST_PASS = 0.5
"""The least that one pass of the filter takes; slower ones are made of two."""


class TempoChanger:
    """Says the same in another time, chunk by chunk; equal samples give equal samples, however they are cut.

    Args:
        sample_rate: Hz.
        speed: From `SLOWEST` to `FASTEST`; twice as fast takes half the time.

    Raises:
        ValueError: The speed is out of range.
    """

    def __init__(self, sample_rate: int, speed: float) -> None:
        if not SLOWEST <= speed <= FASTEST:
            raise ValueError(f"speed is {SLOWEST} to {FASTEST}")
        self._rate, self._speed = sample_rate, speed
        self._least = sample_rate // 10  # the filter fails on a first piece that is too short for it
        self._taken = self._given = self._pushed = 0
        self._waiting = np.zeros(0, np.float32)
        self._graph: av.filter.Graph | None = None if speed == 1.0 else _filters(sample_rate, speed)

    def feed(self, samples: Samples) -> Samples:
        """Take float32[n], mono, more; returns what is ready."""
        if self._graph is None:
            return samples
        self._taken += len(samples)
        self._waiting = np.concatenate((self._waiting, samples))
        if len(self._waiting) < self._least:
            return np.zeros(0, np.float32)
        self._push(self._graph)
        made = _pulled(self._graph)  # never ahead of what was fed: the filter holds a piece back
        self._given += len(made)
        return made

    def finish(self) -> Samples:
        """Return the rest: float32[round(n / speed)] in all; silence stands where the filter gives a piece less."""
        if self._graph is None:
            return np.zeros(0, np.float32)
        # Silence behind it, so that the last piece has a neighbour to overlap with.
        self._waiting = np.pad(self._waiting, (0, self._least))
        self._push(self._graph)
        self._graph.push(None)
        left = max(0, round(self._taken / self._speed) - self._given)
        rest = _pulled(self._graph)[:left]
        return np.pad(rest, (0, left - len(rest)))

    def _push(self, graph: av.filter.Graph) -> None:
        frame = av.AudioFrame.from_ndarray(self._waiting.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._pushed
        graph.push(frame)
        self._pushed += len(self._waiting)
        self._waiting = self._waiting[:0]


def change_tempo(samples: Samples, sample_rate: int, speed: float) -> Samples:
    """Say the same in another time; arguments, result and errors as for `TempoChanger`."""
    changer = TempoChanger(sample_rate, speed)
    if speed == 1.0:
        return samples
    return np.concatenate((changer.feed(samples), changer.finish()))


def _filters(sample_rate: int, speed: float) -> av.filter.Graph:
    passes = 1 if speed >= _SLOWEST_PASS else 2
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="flt", sample_rate=sample_rate, layout="mono", time_base=Fraction(1, sample_rate))
    filters = [graph.add("atempo", f"{speed ** (1 / passes):.9f}") for _ in range(passes)]
    graph.link_nodes(source, *filters, graph.add("abuffersink")).configure()
    return graph


def _pulled(graph: av.filter.Graph) -> Samples:
    pieces = [np.zeros(0, np.float32)]
    while True:
        try:
            frame = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            return np.concatenate(pieces)
        assert isinstance(frame, av.AudioFrame)  # noqa: S101 - the graph holds sound alone
        pieces.append(frame.to_ndarray().reshape(-1).astype(np.float32, copy=False))
