"""Where a mark is seen in spliced files: a marked piece in somebody else's speech, and the other way round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.marks.clips import Clip
from benchmarks.marks.edits import Edit
from benchmarks.marks.plan import Row, generator
from benchmarks.marks.systems import Ours, Who
from vivavoce.sound import SPEECH_RATE, Samples
from vivavoce.watermark import Segment

PIECE_SECONDS, HOST_SECONDS = 3.0, 9.0
STEP = 1e-3  # seconds: what the overlap is counted in

Pair = tuple[Clip, Samples]  # a clip and its marked form


def splice_rows(ours: Ours, edit: Edit, host: Pair, guest: Pair, who: Who) -> list[Row]:
    """3 s of one speaker set into 9 s of another: marked into unmarked, and unmarked into marked.

    Each is looked at twice, without the registry and with it (`who`), which lets borders be drawn with the exact code.
    """
    rng = generator("splice", host[0].name)
    cut = float(rng.uniform(2.0, HOST_SECONDS - 2.0))
    begin = float(rng.uniform(0.0, len(guest[1]) / SPEECH_RATE - PIECE_SECONDS))
    spans = {"marked": ((cut, cut + PIECE_SECONDS),), "unmarked": ((0.0, cut), (cut + PIECE_SECONDS, 12.0))}
    rows = []
    for inside, outer, inner in (("marked", host[0].samples, guest[1]), ("unmarked", host[1], guest[0].samples)):
        spliced = splice(outer, inner, cut, begin)
        sound, rate = edit.process(spliced, generator("splice", host[0].name, edit.name))
        for asked in (None, who):
            segments = ours.segments(sound, rate, asked)
            rows.append(
                {
                    "clip": host[0].name,
                    "edit": edit.name,
                    "inside": inside,
                    "registry": asked is not None,
                    "iou": overlap(segments, spans[inside], len(spliced) / SPEECH_RATE),
                    "errors": border_errors(segments, (cut, cut + PIECE_SECONDS)),
                }
            )
    return rows


def splice(outer: Samples, inner: Samples, cut: float, begin: float) -> Samples:
    """Nine seconds of `outer`, with three of `inner` (from `begin` on) set in at `cut` seconds."""
    at, first = int(cut * SPEECH_RATE), int(begin * SPEECH_RATE)
    piece = inner[first : first + int(PIECE_SECONDS * SPEECH_RATE)]
    host = outer[: int(HOST_SECONDS * SPEECH_RATE)]
    return np.concatenate([host[:at], piece, host[at:]])


def overlap(segments: tuple[Segment, ...], spans: tuple[tuple[float, float], ...], seconds: float) -> float:
    """Intersection over union of what is said to be marked and what is."""
    said = _covered([(segment.start_s, segment.end_s) for segment in segments], seconds)
    true = _covered(list(spans), seconds)
    return float((said & true).sum() / max(1, (said | true).sum()))


def border_errors(segments: tuple[Segment, ...], borders: tuple[float, ...]) -> list[float | None]:
    """Seconds from each true border to the nearest that is said; None where no segment is said at all."""
    said = [edge for segment in segments for edge in (segment.start_s, segment.end_s)]
    return [min((abs(edge - border) for edge in said), default=None) for border in borders]


def _covered(spans: list[tuple[float, float]], seconds: float) -> NDArray[np.bool_]:
    moments = np.arange(0, seconds, STEP) + STEP / 2
    covered = np.zeros(len(moments), dtype=bool)
    for start, end in spans:
        covered |= (moments >= start) & (moments < end)
    return covered
