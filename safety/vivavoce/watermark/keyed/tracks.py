"""From matches in windows to tracks: stretches of sound that follow one pattern without a break.

A sound is taken section by section, so that memory is bounded; within a section, windows of 10 s are looked at. What
is kept of a track is what stood out in each of its columns: enough to read the code and to draw its borders later.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vivavoce.watermark.keyed.layout import COLUMNS, Layout
from vivavoce.watermark.keyed.search import (
    AS_MADE,
    PLACES,
    Match,
    Warp,
    best_place,
    evidence,
    look,
    nearby,
    standing_out,
    warps,
)
from vivavoce.watermark.keyed.spectrum import COLUMN_FRAMES, HOP, Power
from vivavoce.watermark.networks import SAMPLE_RATE

FRAME_SECONDS = HOP / SAMPLE_RATE
WINDOW, STRIDE = 1_000, 500  # frames: 10 s, every 5 s
FEWEST = 40  # frames: a window of less than 0.4 s is not looked at
ENOUGH = 3.0  # evidence (see `search.evidence`) from which on a window founds a track
SLACK = 6  # frames by which a window may disagree with its neighbour and still belong to the same track
LOCAL_Z = 3.5  # a window that agrees this well with where it is expected corrects the track's drift


@dataclass(frozen=True)
class Columns:
    """What stood out along a track.

    Attributes:
        seconds: float64[n], when each column begins in the sound.
        place: int16[n], which column of the pattern it is.
        tiles: float16[n, BANDS] in [-1, 1].
    """

    seconds: NDArray[np.float64]
    place: NDArray[np.int16]
    tiles: NDArray[np.float16]


@dataclass
class Track:
    """A stretch that follows one pattern. `match` is where it agrees best; `first` there counts from `frame`."""

    match: Match
    frame: int
    evidence: float
    parts: list[Columns] = field(default_factory=list)

    def expected(self, frame: int) -> int:
        """The pattern's frame at a frame of the sound, if nothing drifts."""
        return round(self.match.first + (frame - self.frame) * self.match.warp.tempo) % PLACES

    def columns(self) -> Columns:
        """All columns, in the order of the sound."""
        return Columns(
            np.concatenate([part.seconds for part in self.parts]),
            np.concatenate([part.place for part in self.parts]),
            np.concatenate([part.tiles for part in self.parts]),
        )


@dataclass
class Tracker:
    """Looks for tracks in one sound, section by section.

    Attributes:
        layout: The operator's pattern.
        search: Whether warped sounds are looked for too.
    """

    layout: Layout
    search: bool
    tracks: list[Track] = field(default_factory=list)
    best: float = float("-inf")
    windows: int = 0

    def section(self, power: Power, start: int) -> None:
        """Look at float32[frames, bins] that begin at frame `start` of the sound."""
        if len(power) < FEWEST:
            return
        spans = _spans(len(power))
        matches = [self._match(power[span]) for span in spans]
        whole = _look_both(power, self.layout, (AS_MADE,))  # a long sound that nobody warped may be very noisy
        self.windows += len(spans) + 1
        found = sorted(
            ((score, span.start, match) for (match, score), span in zip(matches, spans, strict=True)),
            key=lambda one: -one[0],
        )
        found.insert(0, (evidence(whole.z, 4 * PLACES), 0, whole))
        self.best = max(self.best, *(score for score, _, _ in found))
        section: list[Track] = []
        for score, at, match in found:
            new = Track(replace(match), start + at, score)
            if score >= ENOUGH and not any(_same(old, new) for old in section):
                section.append(self._follow(new, power, start, spans))
        for track in section:
            self._join(track)

    def score(self) -> float:
        """-log10 of the bound on the probability that an unmarked sound would have been taken for marked like this."""
        return self.best - float(np.log10(max(1, self.windows)))

    def _match(self, power: Power) -> tuple[Match, float]:
        """The best match of one window, and the evidence of it within this window."""
        plain = _look_both(power, self.layout, (AS_MADE,))
        score = evidence(plain.z, 4 * PLACES)  # half of the errors that may be made, for two ways of looking
        if score >= ENOUGH or not self.search:
            return plain, score
        warped = look(power, self.layout, warps())
        warped = max(warped, look(power, self.layout, nearby(warped.warp)), key=lambda match: match.z)
        other = evidence(warped.z, 2 * PLACES * (len(warps()) + 2))
        return (warped, other) if other > score else (plain, score)

    def _follow(self, track: Track, power: Power, start: int, spans: list[slice]) -> Track:
        """Collect a track's columns over a whole section, window by window, away from where it agrees best."""
        nearest = int(np.argmin([abs(start + span.start - track.frame) for span in spans]))
        parts: dict[int, Columns] = {}
        for order in (range(nearest, len(spans)), range(nearest - 1, -1, -1)):
            anchor = track
            for number in order:
                span = spans[number]
                rows = standing_out(power[span], track.match.warp, noisy=True)
                first, z = best_place(rows, self.layout)
                expected = anchor.expected(start + span.start)
                if z < LOCAL_Z or _apart(first, expected) > SLACK:
                    first = expected
                anchor = Track(Match(track.match.warp, first, z), start + span.start, 0.0)
                parts[number] = _columns(rows, first, track.match.warp, start + span.start, _own(spans, number, start))
        track.parts = [parts[number] for number in sorted(parts)]
        return track

    def _join(self, track: Track) -> None:
        """Add a section's track to the one that it goes on from, or to the list."""
        for old in self.tracks:
            if _same(old, track):
                old.parts += track.parts
                if track.evidence > old.evidence:
                    old.evidence = track.evidence
                old.match, old.frame = track.match, track.frame
                return
        self.tracks.append(track)


def _spans(frames: int) -> list[slice]:
    if frames <= WINDOW:
        return [slice(0, frames)]
    starts = [*range(0, frames - WINDOW, STRIDE), frames - WINDOW]
    return [slice(start, start + WINDOW) for start in starts]


def _own(spans: list[slice], number: int, start: int) -> tuple[float, float]:
    """The seconds of the sound that one window answers for: halfway into the overlap with its neighbours."""
    first = (spans[number].start + spans[number - 1].stop) / 2 if number else spans[0].start
    last = (spans[number].stop + spans[number + 1].start) / 2 if number + 1 < len(spans) else spans[-1].stop
    return (start + first) * FRAME_SECONDS, (start + last) * FRAME_SECONDS


def _look_both(power: Power, layout: Layout, tried: tuple[Warp, ...]) -> Match:
    ways = [look(power, layout, tried, noisy=noisy) for noisy in (False, True)]
    return max(ways, key=lambda match: match.z)


def _columns(rows: NDArray[np.float32], first: int, warp: Warp, frame: int, own: tuple[float, float]) -> Columns:
    """The columns among `rows`, the first of which is the pattern's frame `first`, that begin within `own` seconds."""
    begins = np.arange(-first % COLUMN_FRAMES, len(rows), COLUMN_FRAMES)
    seconds = (frame + begins / warp.tempo) * FRAME_SECONDS
    kept = (seconds >= own[0] - 1e-9) & (seconds < own[1] - 1e-9)
    place = (first + begins) // COLUMN_FRAMES % COLUMNS
    return Columns(seconds[kept], place[kept].astype(np.int16), rows[begins[kept]].astype(np.float16))


def _same(one: Track, other: Track) -> bool:
    """Whether `other` is where `one` leads to."""
    tempo = abs(one.match.warp.tempo - other.match.warp.tempo) < 0.006
    pitch = abs(one.match.warp.pitch - other.match.warp.pitch) < 0.03
    return tempo and pitch and _apart(one.expected(other.frame), other.match.first) <= SLACK


def _apart(one: int, other: int) -> int:
    return min((one - other) % PLACES, (other - one) % PLACES)
