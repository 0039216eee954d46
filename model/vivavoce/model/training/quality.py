"""Which clips are worth training on: those in which whisper hears the words, and which DNSMOS finds clean."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from torchaudio.functional import edit_distance

from vivavoce.model.errors import ModelError
from vivavoce.model.training.clips import LEFT_OUT, MANIFEST, Line, audio_file, read_manifest, write_manifest

RATE = 16_000  # Hz, of both judges


def check(
    folder: Path,
    whisper: Path,
    *,
    most_wrong: float,
    least_mos: float | None,
    show: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Judge every clip of a manifest that has a text, and leave out those that fail; the verdicts stay in the manifest.

    Args:
        whisper: folder of weights for faster-whisper (Radford et al. 2022).
        most_wrong: share of word errors (Levenshtein) up to which a clip is kept.
        least_mos: DNSMOS P.835 overall (Reddy et al. 2022), 1 to 5, from which on a clip is kept; None: not asked.

    Returns:
        The number of clips kept.

    Raises:
        ModelError: a judge is not installed.
    """
    listen, rate_quality = _listener(whisper), None if least_mos is None else dnsmos()
    lines = read_manifest(folder / MANIFEST)
    for number, line in enumerate(lines):
        wave, rate = soundfile.read(audio_file(folder, line["id"]), dtype="float32", always_2d=True)
        mono = np.clip(soxr.resample(wave.mean(1), rate, RATE), -1, 1).astype(np.float32)
        _judge_words(line, listen(mono) if "text" in line else None, most_wrong)
        if rate_quality is not None and least_mos is not None and LEFT_OUT not in line:
            line["dnsmos"] = round(rate_quality(mono), 2)
            if line["dnsmos"] < least_mos:
                line[LEFT_OUT] = "dnsmos"
        show(number + 1, len(lines))
    write_manifest(folder / MANIFEST, lines)
    return sum(LEFT_OUT not in line for line in lines)


def _judge_words(line: Line, heard: str | None, most_wrong: float) -> None:
    line.pop(LEFT_OUT, None)
    if heard is None:
        return
    said = words(line["text"])
    line["words_wrong"] = round(edit_distance(said, words(heard)) / max(1, len(said)), 3)
    if line["words_wrong"] > most_wrong:
        line[LEFT_OUT] = "words"


def words(text: str) -> list[str]:
    """The English words of a text, as they are compared: letters, digits and apostrophes."""
    return re.sub(r"[^a-z0-9' ]", " ", text.lower()).split()


def _listener(whisper: Path) -> Callable[[np.ndarray[Any, Any]], str]:
    try:
        from faster_whisper import WhisperModel
    except ModuleNotFoundError as error:
        raise ModelError("judging words needs faster-whisper: pip install faster-whisper") from error
    model = WhisperModel(str(whisper), device="cpu", compute_type="int8", cpu_threads=1)

    def listen(wave: np.ndarray[Any, Any]) -> str:
        found, _ = model.transcribe(wave, language="en", beam_size=5, condition_on_previous_text=False, temperature=0.0)
        return " ".join(segment.text.strip() for segment in found)

    return listen


def dnsmos() -> Callable[[np.ndarray[Any, Any]], float]:
    """Open the judge of quality: DNSMOS P.835 overall of float32[n] at `RATE`, in [-1, 1].

    Raises:
        ModelError: it is not installed.
    """
    try:
        from speechmos import dnsmos as judge
    except ModuleNotFoundError as error:
        raise ModelError("judging quality needs speechmos: pip install 'vivavoce[data]'") from error
    return lambda wave: float(judge.run(wave, RATE, return_df=False)["ovrl_mos"])
