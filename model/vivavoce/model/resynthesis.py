"""Speech through a tokenizer and back: what remains of a sound that a model of this kind has spoken again."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoce.model.audio import resample
from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.voice_model import default_folder


def resynthesise(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Encode and decode by the shipped mini tokenizer; nothing moves in time, and the end may lose part of a frame.

    Args:
        samples: float32[n], mono, full scale 1.0.
        sample_rate: Hz, of what comes in and goes out.

    Raises:
        ModelError: the sound is empty, not finite, or shorter than one code frame.
    """
    tokenizer = _tokenizer()
    made = tokenizer.decode(tokenizer.encode(torch.from_numpy(samples), sample_rate))
    return np.asarray(resample(made, tokenizer.sample_rate, sample_rate).numpy()[: len(samples)])


@cache
def _tokenizer() -> AudioTokenizer:
    return AudioTokenizer.from_pretrained(default_folder() / "tokenizer")
