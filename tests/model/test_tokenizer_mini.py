"""The shipped mini tokenizer does to real speech what its model card says."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.tokenizer_quality import measure, read

from vivavoce.model import AudioTokenizer
from vivavoce.model.training.spectral import MelLoss

ROOT = Path(__file__).parents[2]
MINI = ROOT / "model" / "vivavoce" / "model" / "weights" / "mini" / "tokenizer"
SPEECH = ROOT / "tests" / "data" / "speech"
MEL_L1 = 1.0  # natural-log units; see the model card


@pytest.fixture(scope="module")
def mini() -> AudioTokenizer:
    return AudioTokenizer.from_pretrained(MINI)


def test_it_is_small_and_of_the_published_kind(mini: AudioTokenizer) -> None:
    assert sum(file.stat().st_size for file in MINI.iterdir()) < 25_000_000
    assert (mini.sample_rate, mini.frame_rate, mini.samples_per_frame) == (24000, 25, 960)
    assert mini.config.codebook_sizes == (1024, 1024, 128, 128, 128, 128, 128, 128)


@pytest.mark.parametrize("clip", ["austen-0880", "goforward"])
def test_speech_survives(mini: AudioTokenizer, clip: str) -> None:
    """Speech of speakers that it was not trained on comes back closer than the card's bound."""
    wave = read(SPEECH / f"{clip}.flac", mini.sample_rate)
    quality, _ = measure(mini, wave)
    assert quality.mel < MEL_L1
    assert quality.stream_mel < 0.1
    # The measure tells: another clip's codes are not this speech.
    other = read(SPEECH / "austen-0930.flac", mini.sample_rate)
    made = mini.decode(mini.encode(other, mini.sample_rate))
    length = min(len(made), len(wave))
    assert MelLoss(mini.sample_rate)(made[None, :length], wave[None, :length]) > 1.5 * quality.mel


def test_first_codebooks_alone_still_speak(mini: AudioTokenizer) -> None:
    """Each further codebook brings the output closer."""
    wave = read(SPEECH / "austen-0880.flac", mini.sample_rate)
    codes = mini.encode(wave, mini.sample_rate)
    mel = mini.mel(mini.decode(codes)).clamp(min=-7)
    errors = [float((mini.mel(mini.decode(codes[:n])).clamp(min=-7) - mel).abs().mean()) for n in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0
