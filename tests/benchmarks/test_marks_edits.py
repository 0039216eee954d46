"""The benchmark's edits do what their names say, the same way every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.marks.clips import read
from benchmarks.marks.edits import EDITS, RATE, Edit, passed, played, stretched
from benchmarks.marks.rooms import RT60, direct_to_reverberant_db, in_room, room_response

SPEECH = Path(__file__).parents[1] / "data/speech/austen-0880.flac"
BY_NAME = {edit.name: edit for edit in EDITS}


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    wave = read(SPEECH)
    return np.concatenate([wave, wave, wave])[: 8 * RATE]


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def highest_peak(wave: np.ndarray, rate: int) -> float:
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.argmax(power) * rate / len(wave))


def gain_db(name: str, hz: float) -> float:
    wave = tone(hz)
    made, rate = BY_NAME[name].process(wave, np.random.default_rng(0))
    return float(20 * np.log10(made[rate // 2 : rate].std() / wave[RATE // 2 : RATE].std()))


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_every_edit_gives_sound_and_the_same_one_twice(edit: Edit, speech: np.ndarray) -> None:
    before = speech.copy()
    (first, rate), (second, again) = (edit.process(speech, np.random.default_rng(5)) for _ in range(2))
    assert rate == again
    np.testing.assert_array_equal(first, second)
    assert first.ndim == 1
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert first.std() > 0.01
    np.testing.assert_array_equal(speech, before)  # edits of one clip must not spoil it for the next edit


def test_names_are_unique_and_all_asked_for_are_there() -> None:
    assert len(BY_NAME) == len(EDITS)
    rows = [edit.row for edit in EDITS]
    assert (rows.count("easy"), rows.count("hard"), rows.count("warp")) == (19, 5, 8)


@pytest.mark.parametrize("db", [30, 20, 10])
def test_noise_is_as_loud_as_it_says(db: int, speech: np.ndarray) -> None:
    made, _ = BY_NAME[f"noise {db} dB"].process(speech, np.random.default_rng(1))
    assert 20 * np.log10(speech.std() / (made - speech).std()) == pytest.approx(db, abs=0.1)
    other, _ = BY_NAME[f"noise {db} dB"].process(speech, np.random.default_rng(2))
    assert not np.array_equal(made, other)


def test_filters_pass_what_they_should() -> None:
    for name, kept, lost in (
        ("low-pass 3.5 kHz", 2_000, 5_000),
        ("high-pass 500 Hz", 1_000, 300),
        ("high-pass 1.5 kHz", 3_000, 900),
        ("resampled to 8 kHz", 2_000, 5_000),
        ("mu-law 8 kHz", 1_000, 5_000),
    ):
        assert abs(gain_db(name, kept)) < 0.6, name
        assert gain_db(name, lost) < -24, name
    assert passed(tone(100), above=500).std() < 1e-3


@pytest.mark.parametrize(("factor", "hz"), [(1.25, 500.0), (0.8, 320.0), (1.05, 420.0)])
def test_speed_changes_length_and_pitch_together(factor: float, hz: float) -> None:
    made = played(tone(400), factor)
    assert len(made) == pytest.approx(2 * RATE / factor, abs=2)
    assert highest_peak(made, RATE) == pytest.approx(hz, abs=1)


@pytest.mark.parametrize("tempo", [1 / 1.1, 1 / 0.9])
def test_stretch_changes_length_alone(tempo: float) -> None:
    made = stretched(tone(400, 4), tempo)
    assert len(made) == pytest.approx(4 * RATE / tempo, rel=0.02)
    assert highest_peak(made, RATE) == pytest.approx(400, abs=3)


def test_pitch_changes_pitch_alone() -> None:
    for name, hz in (("pitch +1 semitone", 400 * 2 ** (1 / 12)), ("pitch -1 semitone", 400 / 2 ** (1 / 12))):
        made, _ = BY_NAME[name].process(tone(400, 4), np.random.default_rng(0))
        assert len(made) == pytest.approx(4 * RATE, rel=0.02)
        assert highest_peak(made, RATE) == pytest.approx(hz, abs=3)


def test_gains_polarity_and_crops_are_exact(speech: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(BY_NAME["polarity"].process(speech, rng)[0], -speech)
    assert gain_db("gain -12 dB", 400) == pytest.approx(-12, abs=0.01)
    loud, _ = BY_NAME["gain +6 dB, clipped"].process(speech / np.abs(speech).max(), rng)
    assert float(np.abs(loud).max()) == 1.0
    piece, _ = BY_NAME["crop to 1 s"].process(speech, rng)
    assert len(piece) == RATE
    assert any(np.array_equal(piece, speech[at : at + RATE]) for at in np.flatnonzero(speech == piece[0]))


def test_rooms_have_the_reverberation_that_they_claim() -> None:
    """The time is read off Schroeder's integral between -5 and -25 dB; it is Sabine's, which is a little short."""
    levels = []
    for seed in range(5):
        response = room_response(RATE, np.random.default_rng(seed))
        assert np.argmax(np.abs(response)) == 0  # the direct sound comes first, so that nothing moves in time
        left = 10 * np.log10(np.cumsum((response**2)[::-1])[::-1])
        left -= left[0]
        seconds = 3 * (np.argmax(left < -25) - np.argmax(left < -5)) / RATE
        assert seconds == pytest.approx(RT60, rel=0.25)
        levels.append(direct_to_reverberant_db(response, RATE))
    assert -8 < np.mean(levels) < 2
    silence = in_room(np.zeros(RATE, dtype=np.float32), response)
    assert not silence.any()
