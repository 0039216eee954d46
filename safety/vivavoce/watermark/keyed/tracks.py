"""From matches in windows to tracks: stretches of sound that follow one pattern without a break.

A sound is taken section by section, so that memory is bounded; within a section, windows of 10 s are looked at. What
is kept of a track is what stood out in each of its columns: enough to read the code and to draw its borders later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log10

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
SHORT_WINDOW, SHORT_STRIDE = 300, 150  # frames: pieces of this length are found beside a longer one
FEWEST = 40  # frames: a window of less than 0.4 s is not looked at
ENOUGH = 3.0  # evidence (see `search.evidence`) from which on a window founds a track
BEYOND_DOUBT = 12.0  # evidence that a warp of another kind would not leave, so that no warp need be tried
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

    def only(self, chosen: NDArray[np.bool_]) -> Columns:
        """Some of the columns."""
        return Columns(self.seconds[chosen], self.place[chosen], self.tiles[chosen])

    def split(self, size: int) -> Iterator[Columns]:
        """The columns in order, at most `size` at a time."""
        for at in range(0, len(self.place), size):
            part = slice(at, at + size)
            yield Columns(self.seconds[part], self.place[part], self.tiles[part])


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
        spans = _spans(len(power), WINDOW, STRIDE)
        found = [(*self._match(power[span]), span.start) for span in spans]
        whole = _look_both(power, self.layout, (AS_MADE,))  # a long sound that nobody warped may be very noisy
        found.append((whole, evidence(whole.z, 4 * PLACES), 0))
        self.windows += len(found)
        self.best = max(self.best, *(score for _, score, _ in found))
        section: list[Track] = []
        for match, score, at in sorted(found, key=lambda one: -one[1]):
            self._found(section, Track(match, start + at, score), ENOUGH, power, start)
        for match, score, at in self._pieces(power, section):
            self._found(
                section, Track(match, start + at, score), ENOUGH + log10(len(power) / SHORT_STRIDE + 1), power, start
            )
        for track in section:
            self._join(track)

    def _found(self, section: list[Track], new: Track, enough: float, power: Power, start: int) -> None:
        """Follow a new track through its section, if it is one."""
        if new.evidence >= enough and not any(_same(old, new) for old in section):
            section.append(self._follow(new, power, start))

    def _pieces(self, power: Power, section: list[Track]) -> Iterator[tuple[Match, float, int]]:
        """Matches of short windows under the warps found already: a short piece beside a long one is seen here only."""
        tried = tuple(dict.fromkeys(track.match.warp for track in section))
        if not tried or len(power) <= SHORT_WINDOW:
            return
        for span in _spans(len(power), SHORT_WINDOW, SHORT_STRIDE):
            match = _look_both(power[span], self.layout, tried)
            yield match, evidence(match.z, 4 * PLACES * len(tried)), span.start

    def score(self) -> float:
        """-log10 of the bound on the probability that an unmarked sound would have been taken for marked like this."""
        return self.best - log10(max(1, self.windows))

    def _match(self, power: Power) -> tuple[Match, float]:
        """The best match of one window, and the evidence of it within this window."""
        plain = _look_both(power, self.layout, (AS_MADE,))
        score = evidence(plain.z, 4 * PLACES)  # half of the errors that may be made, for two ways of looking
        if not self.search:
            return plain, score
        tried = warps() if score < BEYOND_DOUBT else nearby(AS_MADE)
        warped = look(power, self.layout, tried)
        warped = max(warped, look(power, self.layout, nearby(warped.warp)), key=lambda match: match.z)
        other = evidence(warped.z, 2 * PLACES * (len(warps()) + len(nearby(warped.warp))))
        return (warped, other) if other > score else (plain, score)

    def _follow(self, track: Track, power: Power, start: int) -> Track:
        """Collect a track's columns over a whole section, window by window, away from where it agrees best."""
        spans = _spans(len(power), WINDOW, STRIDE)
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


def _spans(frames: int, window: int, stride: int) -> list[slice]:
    """Windows that cover `frames`; the last one ends with them."""
    if frames <= window:
        return [slice(0, frames)]
    starts = [*range(0, frames - window, stride), frames - window]
    return [slice(start, start + window) for start in starts]


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
