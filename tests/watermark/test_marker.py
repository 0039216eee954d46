"""Promise 2's ground: the shipped marks are found in every format that is served, and nowhere else."""

from dataclasses import replace
from itertools import product
from typing import cast

import numpy as np
import pytest
import torch

from vivavoce.model import AudioTokenizer
from vivavoce.model.voice_model import default_folder
from vivavoce.release.marking import si_snr_db
from vivavoce.sound import SPEECH_RATE, Format, decode, encode, resample
from vivavoce.watermark import Detection, Marker, MarkError, Verdict

FORMS = ["none", "wav", "flac", "mp3", "opus", "aac"]
LOSSY = ["mp3", "opus", "aac"]
NAMES = ["austen-0870", "austen-0880", "austen-0890", "austen-0920", "austen-0930", "goforward"]
IDENTITY = 0xA659_1234_5678
Clips = dict[str, np.ndarray]


def heard(marker: Marker, samples: np.ndarray, form: str) -> Detection:
    """What the detector says about the file as it would be served."""
    if form == "none":
        return marker.detect(samples, SPEECH_RATE)
    sound = decode(encode(samples, SPEECH_RATE, cast("Format", form)))
    return marker.detect(sound.samples, sound.sample_rate)


# Both lossless formats hold the same samples, 16 bits each: one clip tells.
@pytest.mark.parametrize(
    ("name", "form"), [*product(NAMES, ["none", *LOSSY]), *product(["goforward"], ["wav", "flac"])]
)
def test_the_mark_is_found_in_every_format_and_only_where_it_is(
    marker: Marker, clips: Clips, name: str, form: str
) -> None:
    marked = heard(marker, marker.embed(clips[name], SPEECH_RATE, IDENTITY), form)
    assert marked.verdict == Verdict.OURS, marked.reason
    assert marked.score >= marked.threshold == marker.threshold
    assert marked.reading is not None
    assert marker.doubt(marked.reading, IDENTITY) < 1e-6
    assert marker.doubt(marked.reading, IDENTITY + 1) > 1e-6
    unmarked = heard(marker, clips[name], form)
    assert unmarked.verdict == Verdict.NOT_DETECTED
    assert unmarked.reading is None
    assert unmarked.segments == ()


@pytest.fixture(scope="module")
def generated(clips: Clips) -> list[np.ndarray]:
    """What our own model makes of two clips; it sounds duller than a recording."""
    tokenizer = AudioTokenizer.from_pretrained(default_folder() / "tokenizer")
    assert tokenizer.sample_rate == SPEECH_RATE
    return [
        tokenizer.decode(tokenizer.encode(torch.from_numpy(clips[name]), SPEECH_RATE)).numpy()
        for name in ("austen-0880", "goforward")
    ]


@pytest.mark.parametrize("form", FORMS)
def test_generated_speech_is_told_apart_too(marker: Marker, generated: list[np.ndarray], form: str) -> None:
    """Unmarked, it must not pass for marked."""
    for clip in generated:
        assert not heard(marker, clip, form).found
        assert heard(marker, marker.embed(clip, SPEECH_RATE, IDENTITY), form).found


def noises() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    time = np.arange(4 * SPEECH_RATE) / SPEECH_RATE
    white = rng.standard_normal(len(time))
    return {
        "white noise": 0.1 * white,
        "brown noise": 0.01 * np.cumsum(white) / 10,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "buzz of 50 Hz": 0.05 * sum(np.sin(2 * np.pi * 50 * k * time) for k in range(1, 100)),
        "clicks": (rng.random(len(time)) > 0.999).astype(float),
        "sweep": 0.3 * np.sin(2 * np.pi * (50 + 900 * time) * time),
        "square": 0.2 * np.sign(np.sin(2 * np.pi * 200 * time)),
        "the same 40 ms again and again": np.tile(0.1 * white[:960], 100),
    }


@pytest.mark.parametrize("name", noises())
def test_nothing_is_found_in_what_is_no_speech(marker: Marker, name: str) -> None:
    detection = marker.detect(noises()[name].astype(np.float32), SPEECH_RATE)
    assert not detection.found, detection.score


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_any_sample_rate(marker: Marker, clips: Clips, rate: int) -> None:
    clip = resample(clips["austen-0870"], SPEECH_RATE, rate)
    marked = marker.embed(clip, rate, IDENTITY)
    assert len(marked) == len(clip)
    assert marked.dtype == np.float32
    assert marker.detect(marked, rate).verdict == Verdict.OURS
    assert marker.detect(resample(marked, rate, 8_000), 8_000).verdict == Verdict.OURS
    assert not marker.detect(clip, rate).found


def test_three_seconds_name_one_output(marker: Marker, clips: Clips) -> None:
    """Of 50,000 registered ones, from the middle of a file, as MP3."""
    registered = np.random.default_rng(11).integers(0, 2**48, 50_000, dtype=np.uint64)
    registered[123] = IDENTITY
    marked = marker.embed(clips["austen-0870"], SPEECH_RATE, IDENTITY)
    for start in (0.0, 1.3, 4.0):
        first = int(start * SPEECH_RATE)
        detection = heard(marker, marked[first : first + 3 * SPEECH_RATE], "mp3")
        assert detection.reading is not None
        found = marker.code.resolve(detection.reading, [registered])
        assert found.identity == IDENTITY
        assert found.false_attribution < 1e-6


def test_the_mark_is_quiet(marker: Marker, clips: Clips) -> None:
    quiet = [si_snr_db(clip, marker.embed(clip, SPEECH_RATE, IDENTITY)) for clip in clips.values()]
    assert np.mean(quiet) >= 18
    assert min(quiet) >= 15


def test_above_8_khz_the_sound_stays_as_it_was(marker: Marker, clips: Clips) -> None:
    clip = clips["austen-0870"]
    clip = clip + np.random.default_rng(1).standard_normal(len(clip)).astype("f4") / 50
    mark = marker.embed(clip, SPEECH_RATE, IDENTITY) - clip
    power = np.abs(np.fft.rfft(mark)) ** 2
    above = np.fft.rfftfreq(len(mark), 1 / SPEECH_RATE) > 8_200
    assert power[above].sum() < 1e-6 * power.sum()


def test_strength_turns_both_marks_up(marker: Marker, clips: Clips) -> None:
    clip = clips["goforward"]
    heard_at = [si_snr_db(clip, marker.embed(clip, SPEECH_RATE, IDENTITY, strength)) for strength in (0.5, 1.0, 2.0)]
    assert heard_at[0] > heard_at[1] + 4 > heard_at[2] + 8
    np.testing.assert_allclose(marker.embed(clip, SPEECH_RATE, IDENTITY, 0.0), clip, atol=1e-6)


def test_equal_questions_get_equal_answers(marker: Marker, clips: Clips) -> None:
    clip = clips["goforward"]
    other = Marker.load(secret=bytes(range(32)))
    marked = marker.embed(clip, SPEECH_RATE, IDENTITY)
    np.testing.assert_array_equal(other.embed(clip, SPEECH_RATE, IDENTITY), marked)
    one, two = (m.detect(marked, SPEECH_RATE) for m in (marker, other))
    assert one.reading is not None
    assert two.reading is not None
    np.testing.assert_array_equal(one.reading.values, two.reading.values)
    assert replace(one, reading=None) == replace(two, reading=None)


def test_another_operators_mark_is_not_ours(marker: Marker, clips: Clips) -> None:
    """A forger has the public weights and no secret: what is made with them names nobody."""
    forger = Marker.load(secret=b"f" * 32)
    detection = marker.detect(forger.embed(clips["austen-0870"], SPEECH_RATE, IDENTITY), SPEECH_RATE)
    assert detection.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_DETECTED)
    assert detection.reading is None
    assert detection.verdict == Verdict.NOT_DETECTED or "anybody" in detection.reason


def test_without_the_secret_the_learned_mark_is_seen_and_nothing_is_marked(marker: Marker, clips: Clips) -> None:
    stranger = Marker.load()
    marked = marker.embed(clips["austen-0870"], SPEECH_RATE, IDENTITY)
    detection = stranger.detect(marked, SPEECH_RATE)
    assert (detection.verdict, detection.reading) == (Verdict.OURS, None)
    assert "anybody" in detection.reason
    assert stranger.detect(clips["austen-0870"], SPEECH_RATE).verdict == Verdict.NOT_DETECTED
    for ask in (
        lambda: stranger.embed(clips["austen-0870"], SPEECH_RATE, IDENTITY),
        lambda: stranger.stream(SPEECH_RATE, IDENTITY),
        lambda: stranger.code,
    ):
        with pytest.raises(MarkError) as caught:
            ask()
        assert caught.value.code == "no_secret"


@pytest.mark.parametrize(
    ("samples", "rate", "identity", "code"),
    [
        (np.full(int(0.49 * SPEECH_RATE), 0.1), SPEECH_RATE, 0, "too_short"),
        (np.zeros(0), SPEECH_RATE, 0, "too_short"),
        (np.zeros(SPEECH_RATE), SPEECH_RATE, 0, "silent"),
        (np.full(SPEECH_RATE, 5e-4), SPEECH_RATE, 0, "silent"),
        (np.full(SPEECH_RATE, np.nan), SPEECH_RATE, 0, "bad_samples"),
        (np.full((SPEECH_RATE, 2), 0.1), SPEECH_RATE, 0, "bad_samples"),
        (np.full(SPEECH_RATE, 0.1), 4_000, 0, "bad_samples"),
        (np.full(SPEECH_RATE, 0.1), SPEECH_RATE, -1, "bad_identity"),
        (np.full(SPEECH_RATE, 0.1), SPEECH_RATE, 1 << 48, "bad_identity"),
    ],
)
def test_what_cannot_carry_a_mark_is_refused(
    marker: Marker, samples: np.ndarray, rate: int, identity: int, code: str
) -> None:
    with pytest.raises(MarkError) as caught:
        marker.embed(samples.astype(np.float32), rate, identity)
    assert caught.value.code == code
