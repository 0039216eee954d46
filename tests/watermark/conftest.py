"""Real speech and one operator's marker for all tests of the marks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vivavoce.sound import SPEECH_RATE, decode, resample
from vivavoce.watermark import Marker

SPEECH = Path(__file__).parents[1] / "data/speech"
SECRET = bytes(range(32))


@pytest.fixture(scope="session")
def clips() -> dict[str, np.ndarray]:
    """float32[samples] at 24 kHz: six clips of two real speakers that no weights were trained on."""
    sounds = {path.stem: decode(path.read_bytes()) for path in sorted(SPEECH.glob("*.flac"))}
    return {name: resample(sound.samples, sound.sample_rate, SPEECH_RATE) for name, sound in sounds.items()}


@pytest.fixture(scope="session")
def long_clip(clips: dict[str, np.ndarray]) -> np.ndarray:
    """All clips one after the other: 27 s."""
    return np.concatenate(list(clips.values()))


@pytest.fixture(scope="session")
def marker() -> Marker:
    """The shipped weights with a secret."""
    torch.set_num_threads(1)
    return Marker.load(secret=SECRET)
