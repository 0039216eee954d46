"""A sound listened to from beginning to end in bounded memory, and what is to be said of it.

Samples of any rate go in by blocks; they are brought to 16 kHz and looked at in sections of 20 s. What is
kept of an hour is about 25 MB: what stood out in each column of a track, and what the learned mark's detector saw
every 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import soxr
from numpy.typing import NDArray

from vivavoce.sound import MIN_MARKED_SECONDS
from vivavoce.watermark import learned
from vivavoce.watermark.code import Reading
from vivavoce.watermark.errors import MarkError
from vivavoce.watermark.keyed import evidence
from vivavoce.watermark.keyed.layout import Layout
from vivavoce.watermark.keyed.spectrum import COLUMN, HOP, spectrum
from vivavoce.watermark.keyed.tracks import ENOUGH, Track, Tracker
from vivavoce.watermark.networks import SAMPLE_RATE, Networks
from vivavoce.watermark.reading import Detection, Segment, Verdict
from vivavoce.watermark.weights import Settings

Samples = NDArray[np.float32]

SILENCE = 1e-3  # peak, full scale 1.0 (-60 dBFS): marks that follow the speech have nothing to follow here
SECTION = 20 * SAMPLE_RATE  # samples
TELLING_SECONDS = 1.0  # with less sound than this, that no mark was found says little
SOUNDING_DB = 35.0  # a column this far below the loud ones is a pause, where no mark can be asked for
WHOLE = 0.9  # share of the sounding columns that must be marked for a sound to be ours as a whole
SHORTEST_SEGMENT = 0.2  # seconds
WARP_TOLERANCE = 0.003


@dataclass
class Listener:
    """Feed it samples, then ask what it found. One listener for one sound.

    Attributes:
        layout: The operator's pattern; None where the secret is not known, and only the learned mark is looked for.
        search: Whether to look for sounds that were sped up, stretched or pitched, too.
        who: Asked for the identity that a reading belongs to, if that can be told; the borders are sharper then.
    """

    networks: Networks
    settings: Settings
    device: str
    sample_rate: int
    layout: Layout | None
    search: bool
    who: Callable[[Reading], NDArray[np.uint8] | None]
    _wave: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    _context: int = 0
    _frame: int = 0  # of the section that comes next
    _samples: int = 0
    _peak: float = 0.0
    _learned: list[NDArray[np.float16]] = field(default_factory=list)
    _loudness: list[NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tracker = Tracker(self.layout, self.search) if self.layout else None
        self._resampler = (
            None if self.sample_rate == SAMPLE_RATE else soxr.ResampleStream(self.sample_rate, SAMPLE_RATE, 1)
        )

    def feed(self, samples: Samples) -> None:
        """Take float32[n] more.

        Raises:
            MarkError: bad_samples.
        """
        check(samples, self.sample_rate)
        if not len(samples):
            return
        self._samples += len(samples)
        self._peak = max(self._peak, float(np.abs(samples).max()))
        self._take(self._resampler.resample_chunk(samples) if self._resampler else samples)

    def finish(self) -> Detection:
        """Look at what is left, and judge the whole."""
        if self._resampler:
            self._take(np.asarray(self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)))
        if self._peak >= SILENCE and len(self._wave) > self._context:
            self._section(self._wave)
        seconds = self._samples / self.sample_rate
        if seconds < MIN_MARKED_SECONDS:
            return self._nothing(Verdict.INCONCLUSIVE, f"shorter than {MIN_MARKED_SECONDS} s", seconds)
        if self._peak < SILENCE:
            return self._nothing(Verdict.INCONCLUSIVE, "silent", seconds)
        return self._judge(seconds)

    def _take(self, wave: Samples) -> None:
        self._wave = np.concatenate([self._wave, wave])
        while len(self._wave) - self._context > SECTION:
            end = self._context + SECTION
            self._section(self._wave[:end])
            self._wave = self._wave[end - learned.BEFORE :]
            self._context = learned.BEFORE

    def _section(self, wave: Samples) -> None:
        seen = learned.frames_of(self.networks, wave, self._context, self.device)
        self._learned.append(seen.astype(np.float16))
        own = wave[self._context :]
        self._loudness.append(_loudness(own))
        if self._tracker:
            self._tracker.section((np.abs(spectrum(own)) ** 2).astype(np.float32), self._frame)
        self._frame += -(-len(own) // HOP)

    def _judge(self, seconds: float) -> Detection:
        frames = np.concatenate(self._learned)
        present = frames[:, 0].astype(np.float32)
        presence = learned.highest(present)
        by_learning = learned.evidence(presence, self.settings)
        keyed = self._tracker.score() if self._tracker else float("-inf")
        if self._tracker and self.layout and keyed >= ENOUGH and self._tracker.tracks:
            return self._keyed(self._tracker.tracks, self.layout, frames, keyed, presence, seconds)
        heard = by_learning >= ENOUGH
        if self._tracker is None and heard:
            segments = _segments(learned.stretches(present))
            reason = "judged by the public mark alone, which anybody can make"
            return Detection(Verdict.OURS, reason, by_learning, ENOUGH, segments, None, 1.0, 1.0, presence, seconds)
        score = keyed if self._tracker else by_learning
        if heard:
            reason = "the public mark alone is heard, which anybody can make"
            return self._nothing(Verdict.INCONCLUSIVE, reason, seconds, score, presence)
        if len(self._sounding()[0]) * COLUMN / SAMPLE_RATE < TELLING_SECONDS:
            return self._nothing(Verdict.INCONCLUSIVE, "too little sound to tell", seconds, score, presence)
        return self._nothing(Verdict.NOT_DETECTED, "", seconds, score, presence)

    def _keyed(
        self,
        tracks: list[Track],
        layout: Layout,
        frames: NDArray[np.float16],
        score: float,
        presence: float,
        seconds: float,
    ) -> Detection:
        best = max(tracks, key=lambda track: track.evidence)
        warp = best.match.warp
        heard = {id(track): self._hear(track, layout, frames) for track in tracks}
        reading = heard[id(best)][0]
        marked = [span for _, spans in heard.values() for span in spans]
        segments = _segments(marked)
        reason = "; ".join(self._changes(best, segments, len(tracks)))
        verdict = Verdict.OURS_MODIFIED if reason else Verdict.OURS
        return Detection(
            verdict,
            reason,
            score,
            ENOUGH,
            segments,
            reading,
            warp.tempo,
            warp.pitch,
            presence,
            seconds,
        )

    def _hear(
        self, track: Track, layout: Layout, frames: NDArray[np.float16]
    ) -> tuple[Reading, list[tuple[float, float]]]:
        """What a track says where it is marked, and the seconds from and to between which it is."""
        columns, warp = track.columns(), track.match.warp
        inside = evidence.marked(columns, layout, None)
        heard = columns.only(inside) if inside.any() else columns
        values = evidence.soft_bits(heard, layout)
        if max(abs(warp.tempo - 1), abs(warp.pitch - 1)) < WARP_TOLERANCE:
            values = evidence.joined(values, learned.soft_bits(frames, heard, layout, self.settings.bit_temperature))
        reading = Reading(values)
        bits = self.who(reading)
        if bits is not None:
            inside = evidence.marked(columns, layout, bits)
        return reading, evidence.stretches(columns, inside, warp.tempo)

    def _changes(self, track: Track, segments: tuple[Segment, ...], tracks: int) -> list[str]:
        warp = track.match.warp
        changes = []
        if abs(warp.tempo - 1) > WARP_TOLERANCE:
            changes.append(f"played at {warp.tempo:.3f} times its speed")
        if abs(warp.pitch - 1) > WARP_TOLERANCE:
            changes.append(f"{warp.pitch:.3f} times as high")
        if tracks > 1:
            changes.append(f"{tracks} pieces that do not follow one another")
        at, _ = self._sounding()
        inside = sum(any(s.start_s <= time < s.end_s for s in segments) for time in at.tolist())
        if inside < WHOLE * len(at):
            total = len(at) * COLUMN / SAMPLE_RATE
            changes.append(f"marked in {inside * COLUMN / SAMPLE_RATE:.1f} s of {total:.1f} s of speech")
        return changes

    def _sounding(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Seconds and loudness (dB) of the columns that are no pauses."""
        loudness = np.concatenate(self._loudness)
        kept = np.flatnonzero(loudness > np.quantile(loudness, 0.95) - SOUNDING_DB)
        return (kept + 0.5) * COLUMN / SAMPLE_RATE, loudness[kept]

    def _nothing(
        self, verdict: Verdict, reason: str, seconds: float, score: float = 0.0, presence: float = 0.0
    ) -> Detection:
        return Detection(verdict, reason, score, ENOUGH, (), None, 1.0, 1.0, presence, seconds)


def check(samples: Samples, sample_rate: int) -> None:
    """Raise MarkError bad_samples for anything but one channel of finite samples at 8 kHz or more."""
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise MarkError("bad_samples", "a mark needs one channel of finite samples")
    if sample_rate < SAMPLE_RATE // 2:
        raise MarkError("bad_samples", f"{sample_rate} Hz is too low a rate for a mark")


def _loudness(wave: Samples) -> NDArray[np.float32]:
    """float32[columns] in dB."""
    columns = np.pad(wave, (0, -len(wave) % COLUMN)).reshape(-1, COLUMN)
    return np.asarray(10 * np.log10((columns**2).mean(axis=1) + 1e-12), dtype=np.float32)


def _segments(spans: list[tuple[float, float]]) -> tuple[Segment, ...]:
    """The spans in order, overlapping ones as one, and none that is too short to be believed."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + 0.02:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(Segment(round(a, 3), round(b, 3)) for a, b in joined if b - a >= SHORTEST_SEGMENT)
