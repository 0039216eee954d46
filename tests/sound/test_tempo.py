"""Another speed is another length at the same pitch, the same every time, and loses nothing of what is said."""

from __future__ import annotations

import numpy as np
import pytest
from tests.consent.world import SPEECH

from vivavoce.sound import FASTEST, SLOWEST, Samples, change_tempo, decode

SOUND = decode((SPEECH / "austen-0880.flac").read_bytes())
SPEEDS = [SLOWEST, 0.3, 0.5, 0.8, 1.25, 2.0, FASTEST]


def pitch(samples: Samples, rate: int) -> float:
    """Median fundamental of the loud frames by autocorrelation, in Hz."""
    frame = rate // 20
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    energy = (frames**2).mean(axis=1)
    shortest, longest, found = rate // 350, rate // 80, []
    for one in frames[energy > np.quantile(energy, 0.6)]:
        spread = np.correlate(one, one, "full")[frame - 1 :]
        found.append(rate / (shortest + int(np.argmax(spread[shortest:longest]))))
    return float(np.median(found))


@pytest.mark.parametrize("speed", SPEEDS)
def test_length_changes_and_pitch_stays(speed: float) -> None:
    made = change_tempo(SOUND.samples, SOUND.sample_rate, speed)
    assert made.dtype == np.float32 and np.isfinite(made).all()
    assert len(made) == round(len(SOUND.samples) / speed)
    assert pitch(made, SOUND.sample_rate) == pytest.approx(pitch(SOUND.samples, SOUND.sample_rate), rel=0.08)
    assert np.sqrt((made**2).mean()) == pytest.approx(np.sqrt((SOUND.samples**2).mean()), rel=0.15)
    assert np.abs(made).max() <= 1.1 * np.abs(SOUND.samples).max()


@pytest.mark.parametrize("speed", SPEEDS)
def test_nothing_is_lost_at_the_end(speed: float) -> None:
    """A tone is a tone up to the last tenth of a second."""
    tone = np.sin(2 * np.pi * 220 * np.arange(3 * 24_000) / 24_000).astype(np.float32)
    made = change_tempo(tone, 24_000, speed)
    last = made[-4800:-2400]
    assert np.sqrt((last**2).mean()) == pytest.approx(np.sqrt(0.5), rel=0.1)


def test_equal_samples_give_equal_samples() -> None:
    first, second = (change_tempo(SOUND.samples, SOUND.sample_rate, 1.3) for _ in range(2))
    assert np.array_equal(first, second)
    assert change_tempo(SOUND.samples, SOUND.sample_rate, 1.0) is SOUND.samples


@pytest.mark.parametrize("length", [1, 10, 200])
def test_very_short_sounds(length: int) -> None:
    for speed in SPEEDS:
        assert len(change_tempo(SOUND.samples[:length], SOUND.sample_rate, speed)) == round(length / speed)


@pytest.mark.parametrize("speed", [0.0, -1.0, 0.24, 4.01, float("nan"), float("inf")])
def test_speeds_out_of_range(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        change_tempo(SOUND.samples, SOUND.sample_rate, speed)
