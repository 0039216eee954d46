"""Verdicts and segments: where the mark is, what was done to the sound, and when nothing can be said."""

from typing import cast

import numpy as np
import pytest

from vivavoce.sound import SPEECH_RATE, Format, decode, encode, resample
from vivavoce.watermark import Detection, Marker, MarkError, Verdict
from vivavoce.watermark import listening as listening_module

FIRST, SECOND = 0x1111_2222_3333, 0x4444_5555_6666
Clips = dict[str, np.ndarray]


def told(detection: Detection, seconds: float) -> np.ndarray:
    """bool for each 10 ms: whether it is within a segment."""
    at = np.arange(0, seconds, 0.01)
    return np.array([any(s.start_s <= time < s.end_s for s in detection.segments) for time in at])


@pytest.mark.parametrize("form", ["none", "mp3", "opus"])
def test_a_marked_stretch_is_found_where_it_is(marker: Marker, clips: Clips, form: str) -> None:
    before, inside, after = clips["austen-0870"], clips["austen-0920"], clips["austen-0890"]
    spliced = np.concatenate([before, marker.embed(inside, SPEECH_RATE, FIRST), after])
    if form != "none":
        sound = decode(encode(spliced, SPEECH_RATE, cast("Format", form)))
        detection = marker.detect(sound.samples, sound.sample_rate)
    else:
        detection = marker.detect(spliced, SPEECH_RATE)
    assert detection.verdict == Verdict.OURS_MODIFIED
    assert "marked in" in detection.reason
    start, end = len(before) / SPEECH_RATE, (len(before) + len(inside)) / SPEECH_RATE
    (segment,) = detection.segments
    assert segment.start_s == pytest.approx(start, abs=0.15)
    assert segment.end_s == pytest.approx(end, abs=0.15)


@pytest.mark.parametrize("start", [0.0, 2.4, 9.0])
def test_three_marked_seconds_of_twelve_are_no_whole(marker: Marker, long_clip: np.ndarray, start: float) -> None:
    """A little of ours must not make a file ours that is mostly somebody else's."""
    sound = long_clip[: 12 * SPEECH_RATE].copy()
    first, last = int(start * SPEECH_RATE), int((start + 3) * SPEECH_RATE)
    sound[first:last] = marker.embed(long_clip[14 * SPEECH_RATE :], SPEECH_RATE, FIRST)[2 * SPEECH_RATE :][
        : last - first
    ]
    detection = marker.detect(sound, SPEECH_RATE)
    assert detection.verdict == Verdict.OURS_MODIFIED
    (segment,) = detection.segments
    assert segment.start_s == pytest.approx(start, abs=0.2)
    assert segment.end_s == pytest.approx(start + 3, abs=0.2)
    assert detection.reading is not None
    assert marker.doubt(detection.reading, FIRST) < 1e-12


def test_a_hole_in_a_marked_sound_is_found(marker: Marker, clips: Clips) -> None:
    sound = np.concatenate([clips["austen-0870"], clips["austen-0920"]])
    holed = marker.embed(sound, SPEECH_RATE, FIRST)
    first, last = 5 * SPEECH_RATE, 8 * SPEECH_RATE
    holed[first:last] = sound[first:last]
    detection = marker.detect(holed, SPEECH_RATE)
    assert detection.verdict == Verdict.OURS_MODIFIED
    assert detection.segments[0].start_s == pytest.approx(0, abs=0.15)
    assert detection.segments[0].end_s == pytest.approx(5, abs=0.15)
    assert detection.segments[-1].start_s == pytest.approx(8, abs=0.15)
    assert detection.reading is not None
    assert marker.doubt(detection.reading, FIRST) < 1e-12


def test_two_outputs_joined_are_no_whole(marker: Marker, clips: Clips) -> None:
    """One of them is named, never a third; and that something was joined is said."""
    one = marker.embed(clips["austen-0870"], SPEECH_RATE, FIRST)
    two = marker.embed(clips["austen-0920"], SPEECH_RATE, SECOND)
    detection = marker.detect(np.concatenate([one, two]), SPEECH_RATE)
    assert detection.verdict == Verdict.OURS_MODIFIED
    assert "2 pieces" in detection.reason
    assert detection.reading is not None
    assert min(marker.doubt(detection.reading, identity) for identity in (FIRST, SECOND)) < 1e-12
    assert marker.doubt(detection.reading, FIRST ^ SECOND) > 1e-6
    assert told(detection, 13).mean() > 0.95


def test_a_cut_out_middle_is_noticed(marker: Marker, long_clip: np.ndarray) -> None:
    marked = marker.embed(long_clip[: 16 * SPEECH_RATE], SPEECH_RATE, FIRST)
    cut = np.concatenate([marked[: 8 * SPEECH_RATE], marked[int(9.3 * SPEECH_RATE) :]])
    detection = marker.detect(cut, SPEECH_RATE)
    assert detection.verdict == Verdict.OURS_MODIFIED
    assert "pieces" in detection.reason


@pytest.mark.parametrize("speed", [0.8, 0.95, 1.05, 1.25])
def test_a_resampled_copy_is_ours_modified_and_still_named(marker: Marker, long_clip: np.ndarray, speed: float) -> None:
    marked = marker.embed(long_clip[: 10 * SPEECH_RATE], SPEECH_RATE, FIRST)
    detection = marker.detect(resample(marked, round(SPEECH_RATE * speed), SPEECH_RATE), SPEECH_RATE)
    assert detection.verdict == Verdict.OURS_MODIFIED
    assert detection.speed == pytest.approx(speed, rel=0.003)
    assert f"{detection.speed:.3f} times its speed" in detection.reason
    assert detection.reading is not None
    assert marker.doubt(detection.reading, FIRST) < 1e-12
    assert (
        not marker.detect(resample(marked, round(SPEECH_RATE * speed), SPEECH_RATE), SPEECH_RATE, search=False).score
        > 8
    )


def test_sections_and_blocks_cannot_be_told_from_the_whole(
    marker: Marker, long_clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = marker.embed(np.tile(long_clip, 2), SPEECH_RATE, FIRST)
    whole = marker.detect(marked, SPEECH_RATE, search=False)
    assert (whole.verdict, len(whole.segments)) == (Verdict.OURS, 1)
    monkeypatch.setattr(listening_module, "SECTION", 12 * 16_000)
    blocks = np.array_split(marked, 50)
    by_blocks = marker.detect_blocks(blocks, SPEECH_RATE, search=False)
    assert (by_blocks.verdict, len(by_blocks.segments)) == (Verdict.OURS, 1), by_blocks.reason
    assert by_blocks.seconds == whole.seconds
    assert by_blocks.learned == pytest.approx(whole.learned, abs=0.01)
    assert by_blocks.reading is not None
    assert marker.doubt(by_blocks.reading, FIRST) < 1e-30


def test_a_mark_late_in_a_long_sound_is_found(
    marker: Marker, long_clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening_module, "SECTION", 20 * 16_000)
    late = marker.embed(long_clip[: 6 * SPEECH_RATE], SPEECH_RATE, FIRST)
    detection = marker.detect(np.concatenate([np.tile(long_clip, 2), late]), SPEECH_RATE, search=False)
    assert detection.verdict == Verdict.OURS_MODIFIED
    assert detection.segments[-1].start_s == pytest.approx(2 * len(long_clip) / SPEECH_RATE, abs=0.3)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0), "shorter"),
        (np.full(100, 0.3), "shorter"),
        (np.zeros(5 * SPEECH_RATE), "silent"),
        (np.full(5 * SPEECH_RATE, 5e-4), "silent"),
        (np.random.default_rng(1).standard_normal(int(0.7 * SPEECH_RATE)) * 0.1, "too little"),
    ],
)
def test_nothing_is_said_about_silence_and_scraps(marker: Marker, samples: np.ndarray, reason: str) -> None:
    detection = marker.detect(samples.astype(np.float32), SPEECH_RATE)
    assert detection.verdict == Verdict.INCONCLUSIVE
    assert reason in detection.reason
    assert (detection.found, detection.reading, detection.segments) == (False, None, ())


def test_marked_speech_between_long_silences_is_ours_as_a_whole(marker: Marker, clips: Clips) -> None:
    silence = np.zeros(3 * SPEECH_RATE, dtype=np.float32)
    sound = np.concatenate([silence, clips["austen-0870"], silence])
    detection = marker.detect(marker.embed(sound, SPEECH_RATE, FIRST), SPEECH_RATE)
    assert detection.verdict == Verdict.OURS, detection.reason


@pytest.mark.parametrize(
    ("samples", "rate"),
    [(np.full(SPEECH_RATE, np.inf), SPEECH_RATE), (np.full((9, 2), 0.1), SPEECH_RATE), (np.full(9_000, 0.1), 4_000)],
)
def test_bad_samples_are_refused(marker: Marker, samples: np.ndarray, rate: int) -> None:
    with pytest.raises(MarkError) as caught:
        marker.detect(samples.astype(np.float32), rate)
    assert caught.value.code == "bad_samples"
