"""The audible disclosure: a sound begins by saying, in its own language, that its voice is artificial.

`disclosures/` holds one short recording a language, in a voice that is nobody's who consented here
(`scripts/make_disclosures.py`). It is put before the sound ahead of the mark, so the mark is in both.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np

from vivavoce.sound import Samples, decode, resample

FALLBACK = "en"
PAUSE_SECONDS = 0.25

_FOLDER = files("vivavoce.release") / "disclosures"


def disclosure_language(asked: str | None) -> str:
    """Give the language of the disclosure for speech in a language (BCP 47): its own, or English."""
    language = (asked or FALLBACK).partition("-")[0].lower()
    return language if (_FOLDER / f"{language}.flac").is_file() else FALLBACK


@cache
def disclosure(language: str | None, sample_rate: int) -> Samples:
    """Say it in a language, with a pause behind: float32[samples]; none without a language."""
    if language is None:
        return np.zeros(0, dtype=np.float32)
    sound = decode((_FOLDER / f"{language}.flac").read_bytes())
    said = resample(sound.samples, sound.sample_rate, sample_rate)
    return np.concatenate((said, np.zeros(round(PAUSE_SECONDS * sample_rate), dtype=np.float32)))
