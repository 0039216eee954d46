"""One speaker throughout, or two: real recordings of two people, joined as somebody would who has only some of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vivavoce.policy.verification import THRESHOLDS
from vivavoce.sound import Samples, decode, resample
from vivavoce.verification.recordings import RATE, find_speech
from vivavoce.verification.speakers import SpeakerVerifier
from vivavoce.verification.splices import Unity, unity

SPEECH = Path(__file__).parents[1] / "data/speech"
NOWHERE = slice(0, 0)


def read(name: str) -> Samples:
    sound = decode((SPEECH / name).read_bytes())
    return resample(sound.samples, sound.sample_rate, RATE)


READER = np.concatenate([read(f"austen-{number}.flac") for number in ("0870", "0890")])
STRANGER = read("goforward.flac")


@pytest.fixture(scope="module")
def verifier() -> SpeakerVerifier:
    torch.set_num_threads(1)
    return SpeakerVerifier.open()


def measured(verifier: SpeakerVerifier, wave: Samples, stretch: slice = NOWHERE) -> Unity:
    return unity(verifier, wave, RATE, find_speech(wave), stretch)


def test_one_reader_is_one_throughout(verifier: SpeakerVerifier) -> None:
    found = measured(verifier, READER, slice(len(READER) - 3 * RATE, len(READER)))
    assert found.stretch >= THRESHOLDS.least_words_likeness
    assert found.window >= THRESHOLDS.least_window_likeness
    assert found.halves >= THRESHOLDS.least_halves_likeness


def test_a_strangers_words_at_the_end_are_not_the_readers(verifier: SpeakerVerifier) -> None:
    wave = np.concatenate((READER, STRANGER))
    found = measured(verifier, wave, slice(len(READER), len(wave)))
    assert found.stretch < THRESHOLDS.other_speaker


def test_a_stranger_in_the_midst_stands_out_without_being_looked_for(verifier: SpeakerVerifier) -> None:
    middle = len(READER) // 2
    found = measured(verifier, np.concatenate((READER[:middle], STRANGER, READER[middle:])))
    assert found.window < THRESHOLDS.least_window_likeness


def test_half_of_a_stranger_is_found(verifier: SpeakerVerifier) -> None:
    found = measured(verifier, np.concatenate((READER, np.tile(STRANGER, 5))))
    assert found.halves < THRESHOLDS.least_halves_likeness


def test_what_is_too_short_to_compare_is_said_to_be_so(verifier: SpeakerVerifier) -> None:
    assert measured(verifier, STRANGER[:RATE], slice(RATE // 2, RATE)) == Unity(stretch=None)
